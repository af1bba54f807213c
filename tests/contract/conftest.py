"""The contract is kept or broken on a real server."""

from tests.servers.fixtures import redis, redis_server, redis_url

__all__ = ["redis", "redis_server", "redis_url"]
