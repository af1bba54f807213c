"""What a database says of itself, of the role that asks and of the keys in it: for `extauthz doctor`."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from extauthz.backends.postgres import schema
from extauthz.backends.postgres.connection import connect
from extauthz.backends.postgres.errors import translated
from extauthz.backends.postgres.schema import SchemaStatus
from extauthz.backends.postgres.statements import STATEMENTS

# What `serve` and the commands do with our tables. Triggers write the others, as the owner of the tables.
RIGHTS: Mapping[str, tuple[str, ...]] = {
    "alembic_version": ("SELECT",),
    "plans": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "organizations": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "api_keys": ("SELECT", "INSERT", "UPDATE"),
    "usage_daily": ("SELECT", "INSERT", "UPDATE"),
    "credits_used": ("SELECT", "INSERT", "UPDATE"),
    "usage_batches": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "quota_events": ("SELECT", "INSERT", "UPDATE"),
    "rejections": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "retired_hashes": ("SELECT",),
    "audit_log": ("SELECT",),
}


class DatabaseReport(NamedTuple):
    """`ahead` is how far its clock is before ours in seconds, `doubt` by how much that may be wrong.

    `lacking` are rights that the role needs and does not have, as `SELECT on plans`. `direct`: no pooler is between.
    `schema` None: the role may not read which it is.
    """

    version: str
    standby: bool
    read_only: bool
    superuser: bool
    direct: bool
    ahead: float
    doubt: float
    lacking: tuple[str, ...]
    schema: SchemaStatus | None


class KeysReport(NamedTuple):
    """How many usable keys end within 7 and 30 days, and how many usable keys depend on each pepper."""

    week: int
    month: int
    peppers: Mapping[str, int]


async def inspect(dsn: str, *, patience: float) -> DatabaseReport:
    """Raises StoreUnavailable. `patience`: seconds for each statement."""
    pairs = [(table, privilege) for table, privileges in RIGHTS.items() for privilege in privileges]
    arguments = {"tables": [table for table, _ in pairs], "privileges": [privilege for _, privilege in pairs]}
    with translated():
        async with await connect(dsn, statement_timeout=patience) as connection:
            before = time.time()
            (server,) = await (await connection.execute(STATEMENTS["inspect_server"].encode())).fetchall()
            after = time.time()
            rights = await (await connection.execute(STATEMENTS["inspect_rights"].encode(), arguments)).fetchall()
            lacking = tuple(row["lacking"] for row in rights)
            return DatabaseReport(
                version=server["version"].partition(" ")[0],
                standby=server["standby"],
                read_only=server["read_only"],
                superuser=server["superuser"],
                direct=connection.direct,
                ahead=server["at"] - (before + after) / 2,
                doubt=(after - before) / 2,
                lacking=lacking,
                schema=None if "SELECT on alembic_version" in lacking else await schema.found_by(connection),
            )


async def inspect_keys(dsn: str, *, patience: float) -> KeysReport:
    """Raises StoreUnavailable, also where the role may not read keys or there are none."""
    with translated():
        async with await connect(dsn, statement_timeout=patience) as connection:
            (expiry,) = await (await connection.execute(STATEMENTS["inspect_expiry"].encode())).fetchall()
            peppers = await (await connection.execute(STATEMENTS["count_by_pepper"].encode())).fetchall()
            usable = {row["pepper_id"]: row["usable"] for row in peppers if row["usable"]}
            return KeysReport(expiry["week"], expiry["month"], usable)
