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
from tests.servers.limiting import link

__all__ = ["database", "link", "migrated", "office", "pool", "postgres_server", "redis", "redis_server", "redis_url"]
