"""The ways in which PostgreSQL is away, each for as long as a test wants it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
from psycopg.sql import SQL, Identifier

from extauthz.demo.postgres import Postgres
from tests.servers.hurting_proxy import HurtingProxy

CLERK = "clerk of an outage"


@dataclass(frozen=True, slots=True)
class Victim:
    """A database behind a proxy that hurts, for a role of its own: `dsn` is the address through the proxy."""

    server: Postgres
    database: str
    proxy: HurtingProxy

    @property
    def dsn(self) -> str:
        """The address for the code under test."""
        return f"postgresql://{CLERK.replace(' ', '%20')}@127.0.0.1:{self.proxy.port}{urlsplit(self.database).path}"

    @property
    def name(self) -> str:
        """The database's name."""
        return urlsplit(self.database).path[1:].replace("%20", " ")

    @property
    def role(self) -> str:
        """The role's name."""
        return CLERK

    async def sql(self, statement: str, *names: str) -> None:
        """Runs a statement of the server's owner in another database."""
        async with await psycopg.AsyncConnection.connect(self.server.dsn, autocommit=True) as connection:
            await connection.execute(SQL(statement).format(*map(Identifier, names)))

    async def end_connections(self, role: str | None = None) -> None:
        """Ends every connection to the database (of a role), as its administrator would."""
        async with await psycopg.AsyncConnection.connect(self.server.dsn, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND usename = coalesce(%s, usename)",
                [self.name, role],
            )


@asynccontextmanager
async def victim(server: Postgres, database: str) -> AsyncIterator[Victim]:
    """A database to hurt, and its role while it lasts."""
    target = urlsplit(database)
    async with HurtingProxy(target.hostname or "", target.port or 0) as proxy:
        hurt = Victim(server, database, proxy)
        await hurt.sql("CREATE ROLE {} LOGIN SUPERUSER", CLERK)
        try:
            yield hurt
        finally:
            await proxy.refuse()
            await hurt.end_connections()
            await hurt.sql("DROP ROLE {}", CLERK)


@asynccontextmanager
async def refused(hurt: Victim) -> AsyncIterator[None]:
    """Nothing listens there."""
    await hurt.proxy.refuse()
    try:
        yield
    finally:
        await hurt.proxy.accept()


@asynccontextmanager
async def reset(hurt: Victim) -> AsyncIterator[None]:
    """Connections are reset, old and new."""
    hurt.proxy.reject = True
    hurt.proxy.cut()
    try:
        yield
    finally:
        hurt.proxy.reject = False


@asynccontextmanager
async def silent(hurt: Victim) -> AsyncIterator[None]:
    """Connections are taken, and no answer ever comes, not even afterwards."""
    hurt.proxy.swallow = True
    try:
        yield
    finally:
        hurt.proxy.swallow = False


@asynccontextmanager
async def hanging(hurt: Victim) -> AsyncIterator[None]:
    """The server's processes do not run; afterwards they do what they were asked."""
    hurt.server.pause()
    try:
        yield
    finally:
        hurt.server.resume()


@asynccontextmanager
async def stopped(hurt: Victim) -> AsyncIterator[None]:
    """The server is stopped, and started again."""
    hurt.server.stop()
    try:
        yield
    finally:
        hurt.server.start()


@asynccontextmanager
async def closed_database(hurt: Victim) -> AsyncIterator[None]:
    """The database takes no connections (FATAL)."""
    await hurt.sql("ALTER DATABASE {} ALLOW_CONNECTIONS false", hurt.name)
    await hurt.end_connections()
    try:
        yield
    finally:
        await hurt.sql("ALTER DATABASE {} ALLOW_CONNECTIONS true", hurt.name)


@asynccontextmanager
async def closed_role(hurt: Victim) -> AsyncIterator[None]:
    """The role may not log in (FATAL), as with a password that is wrong and is mended."""
    await hurt.sql("ALTER ROLE {} NOLOGIN", CLERK)
    await hurt.end_connections()
    try:
        yield
    finally:
        await hurt.sql("ALTER ROLE {} LOGIN", CLERK)


@asynccontextmanager
async def crowded(hurt: Victim) -> AsyncIterator[None]:
    """The database has no room for one more connection (FATAL)."""
    await hurt.sql("ALTER ROLE {} NOSUPERUSER CONNECTION LIMIT 0", CLERK)
    await hurt.end_connections()
    try:
        yield
    finally:
        await hurt.sql("ALTER ROLE {} SUPERUSER CONNECTION LIMIT -1", CLERK)


Outage = Callable[[Victim], AbstractAsyncContextManager[None]]
OUTAGES: tuple[Outage, ...] = (refused, reset, silent, hanging, stopped, closed_database, closed_role, crowded)
