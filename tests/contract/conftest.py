"""The contract is kept or broken on real servers."""

from tests.servers.fixtures import (
    database,
    migrated,
    office,
    pool,
    postgres_server,
    redis,
    redis_server,
    redis_url,
)

__all__ = ["database", "migrated", "office", "pool", "postgres_server", "redis", "redis_server", "redis_url"]
