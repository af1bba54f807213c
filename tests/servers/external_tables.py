"""Tables of another application, and the keys in them."""

from hashlib import sha256

from extauthz.backends.postgres.external_tables import ExternalTables
from extauthz.backends.postgres.pool import Pool
from extauthz.core.credentials import KeyFormat, Pepper
from extauthz.core.errors import StoreCorrupt
from extauthz.core.keys import ApiKey

NOW = 1_800_000_000.0
FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("p1", b"pepper one of the tests of extauthz")], sha256=True)
VALUE = "5b2f0b8e-7a53-4bd1-9d0a-sesame-opens"
SHA256 = sha256(VALUE.encode()).hexdigest()


async def run(pool: Pool, *scripts: str) -> None:
    """Runs what stands in the documentation, and other statements without arguments."""
    async with pool.connection() as connection:
        for script in scripts:
            await connection.execute(script.encode())


async def sql(pool: Pool, statement: str, *arguments: object) -> None:
    async with pool.connection() as connection:
        await connection.execute(statement.encode(), arguments)


async def find(pool: Pool, statement: str, *keys: str) -> list[ApiKey | StoreCorrupt | None]:
    return await ExternalTables(pool, statement).find([FORMAT.digest(key) for key in keys], NOW)
