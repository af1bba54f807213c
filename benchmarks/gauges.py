"""What a run has cost: read before and after it from the kernel, from Redis, and from PostgreSQL's log."""

import re
from typing import NamedTuple

import psycopg
from redis import Redis

from benchmarks import machine
from benchmarks.ground import Ground

# What the service asks. BEGIN and COMMIT are queries, too: each is a way there and back.
_STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): ")


class Reading(NamedTuple):
    """What was done so far: seconds of Redis's CPU, scripts that it was asked to run, times that it read what it was
    sent; queries of PostgreSQL; how often the service looked for a key, and how often it found it in the process.
    """

    redis: float
    scripts: int
    reads: int
    queries: int
    looked: float
    found: float


class Gauges:
    """A service and its stores, as one looks at them from outside."""

    def __init__(self, at: Ground) -> None:
        self._service = at.service
        self._redis_pid = at.redis.pid
        self._redis: Redis = Redis.from_url(at.redis.redis_url)
        self._log = at.postgres.log
        self._read_to = self._log.stat().st_size
        self._queries = 0

    async def read(self) -> Reading:
        """All of it, now."""
        self._count_queries()
        # Statistics of other commands have those that scripts call as well. What leaves in one write is read at once.
        stats = self._redis.info("commandstats")
        scripts = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha", "fcall"))
        reads = self._redis.info("stats")["total_reads_processed"]
        metrics = await self._service.metrics()
        layers = {
            name: value for name, value in metrics.items() if name.startswith("extauthz_api_key_cache_hits_total")
        }
        looked = sum(layers.values()) + metrics["extauthz_api_key_cache_misses_total"]
        found = sum(value for name, value in layers.items() if "process" in name)
        return Reading(machine.cpu([self._redis_pid]), scripts, reads, self._queries, looked, found)

    def close(self) -> None:
        """Ends the connection."""
        self._redis.close()

    def _count_queries(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            lines = log.read()
        self._read_to += len(lines)
        self._queries += len(_STATEMENT.findall(lines))


def log_queries(at: Ground) -> None:
    """Has PostgreSQL write every query down from now on."""
    with psycopg.connect(at.postgres.dsn, autocommit=True) as sql:
        sql.execute("ALTER SYSTEM SET log_statement = 'all'")
        sql.execute("SELECT pg_reload_conf()")
