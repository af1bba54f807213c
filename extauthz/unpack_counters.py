"""`python -m extauthz.unpack_counters`: counters in Redis as the release before wrote them (docs/howto/upgrade.md)."""

import asyncio
import os
import sys

from extauthz.backends.redis.unpacking import unpack
from extauthz.config import load
from extauthz.core.errors import ConfigError, StoreUnavailable


def main() -> None:
    """Unpacks every hash in the Redis of the settings, and prints how many were packed."""
    try:
        settings = load(os.environ, None, needs={"REDIS_URL"}, serves=False)
        count = asyncio.run(unpack(settings.redis_url.get_secret_value()))
    except ConfigError as error:
        sys.exit("\n".join(error.mistakes))
    except StoreUnavailable as error:
        sys.exit(str(error))
    sys.stdout.write(f"hashes unpacked: {count}\n")


if __name__ == "__main__":
    main()
