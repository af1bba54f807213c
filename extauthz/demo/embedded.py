"""PostgreSQL and a Redis-compatible server in one folder: for trying out, and for small single machines."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from extauthz.demo.folders import make_folder, secret, write_private
from extauthz.demo.postgres import Postgres
from extauthz.demo.redis import Redis

ENV_FILE = "env"


@contextmanager
def embedded(folder: Path, environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Runs both servers with their data in `folder`; `environ` with the settings to use them.

    Pepper and admin token are made at the first start and kept, readable by the owner alone; `folder`/env holds the
    same settings for a shell. Raises ServerFailed.
    """
    make_folder(folder)
    with (
        Postgres(folder / "postgres", durable=True) as postgres,
        Redis(folder / "redis", durable=True) as redis,
    ):
        ours = {
            "DATABASE_URL": postgres.dsn,
            "REDIS_URL": redis.redis_url,
            "EXTAUTHZ_KEY_PEPPER": f"embedded:{secret(folder / 'pepper')}",
            "EXTAUTHZ_ADMIN_TOKEN": f"embedded:{secret(folder / 'admin-token')}",
        }
        write_private(folder / ENV_FILE, "".join(f"export {name}={shlex.quote(v)}\n" for name, v in ours.items()))
        given = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in ours}
        yield given | ours
