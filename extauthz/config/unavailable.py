"""What this version does not do yet. Each later part deletes its line here and in `docs/reference/settings.md`."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from pydantic import SecretStr


class NotYetError(ValueError):
    """A right value for a part that this version does not have."""


def _is_group(url: SecretStr) -> bool:
    return url.get_secret_value().startswith(("redis+sentinel://", "redis+cluster://"))


_ONE_SERVER = "use REDIS_URL=redis://host:6379/0, one server"

# By field: when it is refused, what is missing, what to use.
_REFUSED: Mapping[str, tuple[Callable[[Any], bool], str, str]] = {
    "rate_limit_on_redis_down": (lambda value: value == "local", "`local` is", "use open or closed"),
    "grpc_listen": (
        lambda value: value is not None,
        "the gRPC listener is",
        "use off, and the envoy listener over HTTP",
    ),
    "redis_url": (_is_group, "Redis Sentinel and Cluster are", "use redis://host:6379/0, one server"),
    "rate_limit_redis_cluster_nodes": (bool, "Redis Cluster is", _ONE_SERVER),
    "rate_limit_redis_sentinels": (bool, "Redis Sentinel is", _ONE_SERVER),
}


def _not_yet() -> str:
    return f"not available in this version ({version('extauthz')})"


def refuse(field: str, value: object) -> None:
    """Raise NotYetError when the value of a field asks for a part that is not there."""
    if field in _REFUSED:
        asked, what, instead = _REFUSED[field]
        if asked(value):
            raise NotYetError(f"{what} {_not_yet()}; {instead}")
