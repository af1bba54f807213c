"""Tests of the contract on real stores."""

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
