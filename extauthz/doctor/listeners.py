"""The addresses of the listeners: ours answers there, or the address is free for it."""

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from extauthz.app.listeners import ADMIN, addresses_of
from extauthz.config import Listen, Settings
from extauthz.doctor.finding import ANSWER_TIMEOUT_SECONDS, Finding
from extauthz.transports.http.listen import resolve

_QUESTION = b"GET /readyz HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n"
_OURS = b"\r\nserver: extauthz\r\n"
_ANSWER_MAX = 65_536
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 - where to ask instead


async def listeners(settings: Settings) -> list[Finding]:
    """One finding for each listener that is on, and what a running service says of itself."""
    on = addresses_of(settings)
    answers = dict(zip(on, await asyncio.gather(*map(_ask, on.values())), strict=True))
    runs = any(_is_ours(answer) for answer in answers.values())
    findings = [_listener(name, on[name], answers[name], runs=runs) for name in on]
    if _is_ours(readyz := answers.get(ADMIN.name)):
        findings.append(_service(readyz or b""))
    return findings


def _listener(name: str, at: Listen, answer: bytes | None, *, runs: bool) -> Finding:
    check = f"listener {name}"
    setting = f"EXTAUTHZ_{name.upper()}_LISTEN"
    if answer is not None:
        if _is_ours(answer):
            return Finding(check, True, f"answers at {at}")
        return Finding(check, False, f"another program answers at {at}", f"end it, or choose another {setting}")
    if at.path is None and at.port == 0:
        return Finding(check, True, "any free port")
    if trouble := _unfit(at):
        return Finding(check, False, f"cannot listen on {at}: {trouble}", f"choose another {setting}")
    if runs:
        detail = f"nothing answers at {at}, although extauthz runs"
        return Finding(check, False, detail, f"restart it: it was started with another {setting}")
    return Finding(check, True, f"{at} is free")


def _service(answer: bytes) -> Finding:
    """What `/readyz` of a running service says."""
    check = "service"
    head, _, body = answer.partition(b"\r\n\r\n")
    report: Mapping[str, str] = {}
    with suppress(ValueError):
        report = json.loads(body)
    status = str(report.get("status", "no answer that is understood"))
    trouble = {name: said for name, said in report.items() if name != "status" and not _well(said)}
    said = "; ".join(f"{name}: {what}" for name, what in trouble.items())
    if b" 200 " not in head.partition(b"\r\n")[0] + b" ":
        return Finding(check, False, f"{status}{f' ({said})' if said else ''}", "look at its stores, and at its log")
    if said:
        return Finding(check, False, f"it answers, but something is missing: {said}", "bring back what is named")
    return Finding(check, True, f"it runs and is {status}")


def _well(said: str) -> bool:
    """Whether an entry of `/readyz` names no loss: `ok`, or all workers, `2 of 2`."""
    alive, of, wanted = said.partition(" of ")
    return said == "ok" or bool(of and alive == wanted)


async def _ask(at: Listen) -> bytes | None:
    """What answers there, None where nothing does; empty where something takes connections and is silent."""
    if at.path is None and at.port == 0:
        return None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS / 2):
            reader, writer = await _connect(at)
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS / 2):
            writer.write(_QUESTION)
            answer = b""
            while len(answer) < _ANSWER_MAX and (more := await reader.read(_ANSWER_MAX)):
                answer += more
            return answer
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()


async def _connect(at: Listen) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if at.path is not None:
        return await asyncio.open_unix_connection(at.path)
    return await asyncio.open_connection(_EVERYWHERE.get(at.host, at.host.strip("[]")), at.port)


def _is_ours(answer: bytes | None) -> bool:
    return answer is not None and _OURS in answer.lower()


def _unfit(at: Listen) -> str:
    """Why the address cannot be bound; empty where it can."""
    if at.path is not None:
        folder = Path(at.path).parent
        if not folder.is_dir():
            return f"there is no folder {folder}"
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"the folder {folder} cannot be written to"
    try:
        family, address = resolve(at.host, at.port)
        with closing(socket.socket(family, socket.SOCK_STREAM)) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or "the host name is invalid"
    return ""
