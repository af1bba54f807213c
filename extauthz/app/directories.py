"""Where keys and organizations are kept: in our tables, or in a database that `[keys] lookup_sql` reads."""

from dataclasses import dataclass

from extauthz.backends.postgres import external_tables, schema
from extauthz.backends.postgres.pool import Pool, open_pool
from extauthz.backends.postgres.records import PostgresKeySource, PostgresTenantSource
from extauthz.config import Settings
from extauthz.core.credentials import Credential
from extauthz.core.keys import ApiKey
from extauthz.core.ports import Source
from extauthz.core.tenants import Tenant

TIMEOUT_SECONDS = 5.0  # for one statement of a check of the directory


@dataclass(frozen=True, slots=True)
class ManagedDirectory:
    """Keys, organizations and plans in our tables: managed by our commands and API, with usage kept beside them."""

    keeps_usage = True
    writes_down_changes = True  # so that changes whose messages were lost can be read
    by_sha256 = False  # whether keys are found by their SHA-256, too

    def keys(self, pool: Pool) -> Source[Credential, ApiKey]:
        """Where keys are read."""
        return PostgresKeySource(pool)

    def tenants(self, pool: Pool) -> Source[str, Tenant] | None:
        """Where organizations are read; None: each key's record says all of its organization."""
        return PostgresTenantSource(pool)

    async def probe(self, pool: Pool) -> None:
        """Returns where the database can be read as checks read it. Raises StoreUnavailable."""
        await schema.probe(pool)

    async def check(self, dsn: str) -> None:
        """Raises SchemaUnknown where the database is not what this code reads, StoreUnavailable where it is away."""
        found = await schema.status(dsn)
        if not found.current:
            raise schema.SchemaUnknown(found.found)


@dataclass(frozen=True, slots=True)
class ExternalDirectory:
    """Keys in tables of another application, found by `statement`: read only, without management and without usage."""

    statement: str
    keeps_usage = False
    writes_down_changes = False
    by_sha256 = True

    def keys(self, pool: Pool) -> Source[Credential, ApiKey]:
        """As for ManagedDirectory."""
        return external_tables.ExternalTables(pool, self.statement)

    def tenants(self, pool: Pool) -> Source[str, Tenant] | None:  # noqa: ARG002 - as for ManagedDirectory
        """As for ManagedDirectory."""
        return None

    async def probe(self, pool: Pool) -> None:
        """As for ManagedDirectory."""
        await external_tables.probe(pool, self.statement)

    async def check(self, dsn: str) -> None:
        """As for ManagedDirectory, but raises LookupUnfit."""
        await schema.status(dsn)  # says at once what is wrong with the server; the pool would only be late
        async with open_pool(dsn, size=1, wait=TIMEOUT_SECONDS, statement_timeout=TIMEOUT_SECONDS) as pool:
            await external_tables.check(pool, self.statement)


Directory = ManagedDirectory | ExternalDirectory


def directory(settings: Settings) -> Directory:
    """The directory that the settings choose."""
    return ExternalDirectory(settings.lookup_sql) if settings.lookup_sql else ManagedDirectory()
