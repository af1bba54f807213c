"""A canary: aiohttp still has the private names that connections use, though it does not promise to keep them.

docs/adr/0011-a-fast-path-for-plain-requests.md lists them, with what each is for.
"""

import ast
import inspect
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web, web_protocol

from extauthz.transports.http import accept, bounded, connection

ROOT = Path(__file__).parents[3]
ADR = ROOT / "docs/adr/0011-a-fast-path-for-plain-requests.md"
MODULES = (accept, bounded, connection)
_ROW = re.compile(r"^\| (`_.+?) \| (.+) \|$", re.MULTILINE)
# What each name is for, by the table of the page.
USES = {name: use for names, use in _ROW.findall(ADR.read_text()) for name in re.findall(r"`(\w+)`", names)}


def attributes_of_aiohttp(module: object) -> set[str]:
    """Private names that connections of a module have from their base class: those that it defines itself left out."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    found: set[str] = set()
    own: set[str] = set()
    for class_ in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        if not any(ast.unparse(base) in {"web.RequestHandler", "BoundedConnection"} for base in class_.bases):
            continue
        for node in ast.walk(class_):
            match node:
                case ast.Attribute(value=ast.Name("self"), attr=name) if name.startswith("_"):
                    found.add(name)
                case ast.FunctionDef(name=name):
                    own.add(name)
                case ast.Assign(targets=[ast.Name("__slots__")], value=slots):
                    own |= set(ast.literal_eval(slots))
    return found - own


def imports_from_aiohttp(module: object) -> set[str]:
    """Private names that a module imports."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports if (node.module or "").startswith("aiohttp") for alias in node.names]
    return {name for name in names if name.startswith("_")}


def test_page_lists_every_private_name_that_is_used() -> None:
    """So that an upgrade of aiohttp is examined by that list."""
    slots = set(bounded.BoundedConnection.__slots__)
    used = {name for module in MODULES for name in attributes_of_aiohttp(module) | imports_from_aiohttp(module)} - slots
    assert used == set(USES)


@pytest.mark.parametrize("name", sorted(USES))
def test_aiohttp_has_name(name: str) -> None:
    """Fails with a sentence, before connections fail in ways that are hard to read."""
    there = hasattr(web.RequestHandler, name) or hasattr(web_protocol, name)
    assert there, (
        f"aiohttp {aiohttp.__version__} has no {name} in web_protocol.py any more, used for this: {USES[name]}. "
        f"The whole list is in docs/adr/0011; bounded.py and connection.py in extauthz/transports/http must change."
    )


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (web.RequestHandler, "data_received", ["self", "data"]),
        (web.RequestHandler, "connection_lost", ["self", "exc"]),
        (web.RequestHandler, "force_close", ["self"]),
        (web.RequestHandler, "_process_keepalive", ["self"]),
        (web.RequestHandler, "handle_error", ["self", "request", "status", "exc", "message"]),
        (web.RequestHandler, "log_exception", ["self", "args", "kw"]),
        (web_protocol, "_ErrInfo", ["status", "exc", "message"]),
    ],
)
def test_aiohttp_takes_the_same_parameters(owner: object, name: str, parameters: list[str]) -> None:
    """Methods that connections override or call, and the note by which the parser refuses a request."""
    found = list(inspect.signature(getattr(owner, name)).parameters)
    assert found == parameters, f"aiohttp {aiohttp.__version__}: {name} takes {found}, extauthz expects {parameters}"


def test_aiohttp_queues_messages_as_pairs() -> None:
    """A connection takes the body of the last request out of the queue, and puts a refusal into it."""
    message = (
        f"aiohttp {aiohttp.__version__} no longer queues pairs of a message and its body in RequestHandler._messages"
    )
    assert "self._messages.append((msg, payload))" in inspect.getsource(web.RequestHandler), message
