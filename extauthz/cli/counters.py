"""`extauthz unpack-counters`: counters in Redis in the layout of earlier builds, for the way back to one."""

from extauthz.cli import options, output
from extauthz.cli.session import read_settings, run


def unpack_counters(config: options.Config = None, as_json: options.Json = False) -> None:
    """Write counters in Redis as earlier builds did, before going back to one. Needs no setting but REDIS_URL.

    The service may go on meanwhile: no charge is lost or counted twice.
    """
    from extauthz.backends.redis.unpacking import unpack

    settings = read_settings(config, needs=["REDIS_URL"])
    unpacked = run(unpack(settings.redis_url.get_secret_value()), settings, doing="Unpacking counters")
    if as_json:
        output.print_json({"unpacked": unpacked})
    else:
        output.print_line(f"Unpacked the counters of {unpacked} {'hash' if unpacked == 1 else 'hashes'}.")
