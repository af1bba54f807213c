"""What stands beside a registry without a row in it would be served nowhere: such a thing is found here."""

import re
from importlib import import_module
from inspect import get_annotations, iscoroutinefunction
from pathlib import Path
from pkgutil import iter_modules

from extauthz import admin
from extauthz.admin.api import OPERATIONS
from extauthz.admin.operation import Call
from extauthz.app.authenticators import AUTHENTICATORS
from extauthz.app.listeners import LISTENERS, dialects
from extauthz.config import Listen, Settings
from extauthz.service.check import authenticate
from extauthz.transports.http import dialects as dialect_modules
from tests.unit.config.test_config import settings

DOCUMENTED = Path(__file__).parents[2] / "docs/reference/admin-api.md"


def test_each_address_has_a_listener() -> None:
    """A setting that ends in `_listen` is the address of exactly one listener."""
    fields = {name for name in Settings.model_fields if name.endswith("_listen")}
    at = {name: Listen("127.0.0.1", port) for port, name in enumerate(sorted(fields), 9001)}
    served = [row.address(settings().model_copy(update=at)) for row in LISTENERS]
    assert sorted(served, key=str) == sorted(at.values(), key=str)


def test_each_dialect_has_a_listener() -> None:
    """A module in `transports/http/dialects` is what a listener reads and answers in."""
    modules = {f"{dialect_modules.__name__}.{each.name}" for each in iter_modules(dialect_modules.__path__)}
    assert {type(dialect).__module__ for dialect in dialects(settings()).values()} == modules


def test_each_authenticator_has_a_row() -> None:
    """A class in `authenticate` that reads and proves is asked by checks."""
    classes = [each for each in vars(authenticate).values() if isinstance(each, type) and hasattr(each, "prove")]
    assert len(AUTHENTICATORS) == len([each for each in classes if each is not authenticate.Authenticator])


def test_each_function_of_the_admin_api_has_an_operation() -> None:
    """A public coroutine in `admin` that takes a `Call` answers an operation."""
    answering = {
        function
        for each in iter_modules(admin.__path__)
        for name, function in vars(import_module(f"{admin.__name__}.{each.name}")).items()
        if iscoroutinefunction(function)
        and not name.startswith("_")
        and any(getattr(kind, "__origin__", None) is Call for kind in get_annotations(function).values())
    }
    assert answering == {operation.handle for operation in OPERATIONS}


def test_each_operation_is_documented() -> None:
    """`docs/reference/admin-api.md` names the path of each operation, whole or after the one before it (`…/enable`)."""
    text = DOCUMENTED.read_text("utf-8")
    named = {"{plan}": "PLAN", "{organization}": "ORG", "{api_key}": "ID"}
    paths = {re.sub(r"\{\w+\}", lambda part: named[part[0]], operation.path) for operation in OPERATIONS}
    assert [path for path in sorted(paths) if path not in text and f"…/{path.rpartition('/')[2]}" not in text] == []
