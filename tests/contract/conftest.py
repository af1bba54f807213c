"""The contract is kept or broken on real servers."""

from tests.servers.fixtures import (
    database,
    migrated,
    operator,
    pool,
    postgres_server,
    redis,
    redis_server,
    redis_url,
)
from tests.servers.limiting import redis_connection

__all__ = [
    "database",
    "migrated",
    "operator",
    "pool",
    "postgres_server",
    "redis",
    "redis_connection",
    "redis_server",
    "redis_url",
]
