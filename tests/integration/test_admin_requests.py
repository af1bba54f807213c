"""Calls of the admin API as they come over the wire: lists, queries, versions, paths and bodies, right and wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis as RedisClient

from extauthz.admin.api import AdminApi
from extauthz.backends.postgres.pool import Pool
from tests.servers.admin_api import (
    TOKENS,
    Caller,
    bearer,
    call,
    check_form,
    code,
    fields,
    made,
    new_key,
    services,
    serving,
    value,
)
from tests.servers.raw_http import ask, wire


@pytest.fixture
async def ops(pool: Pool, redis: RedisClient) -> AsyncIterator[Caller]:
    """A client with the token `ops`."""
    async with serving(AdminApi(services(pool, redis), TOKENS)) as port:
        yield Caller(port)


async def test_lists_come_in_pages(ops: Caller) -> None:
    """Newest first, each item once and none left out, while others are added."""
    for number in range(5):
        await ops("POST", "/v1/organizations", {"name": f"o{number}"})
        await ops("POST", "/v1/plans", {"name": f"p{number}"})
        await ops("POST", "/v1/api-keys", {"organization_id": "o0", "name": f"k{number}"})
    for path, names in (
        ("/v1/organizations", ["o4", "o3", "o2", "o1", "o0"]),
        ("/v1/plans", ["p4", "p3", "p2", "p1", "p0", "default"]),
        ("/v1/api-keys", ["k4", "k3", "k2", "k1", "k0"]),
        ("/v1/api-keys?organization_id=o0", ["k4", "k3", "k2", "k1", "k0"]),
        ("/v1/api-keys?organization_id=o1", []),
    ):
        assert await all_of(ops, path) == names
    assert value(await ops("GET", "/v1/plans"))["next"] is None
    assert (await ops("GET", "/v1/api-keys?organization_id=nobody")).status == 404


async def all_of(ops: Caller, path: str) -> list[str]:
    """The names of a list, read two at a time, while new things are added."""
    names: list[str] = []
    joint = "&" if "?" in path else "?"
    page = value(await ops("GET", f"{path}{joint}limit=2"))
    names += [item["name"] for item in page["items"]]
    while page["next"] is not None:
        page = value(await ops("GET", f"{path}{joint}limit=2&cursor={page['next']}"))
        assert len(page["items"]) <= 2
        names += [item["name"] for item in page["items"]]
    return names


WRONG_QUERIES = [
    *[(f"limit={text}", "limit") for text in ("0", "201", "-1", "x", "", "1.0", "+5", "%205", "9" * 30, "%D9%A3")],
    *[(f"cursor={text}", "cursor") for text in ("", "x", "%00", "%ff", "AAAA", "bm9uc2Vuc2U=", "_-_-", "x" * 600)],
    ("limit=5&limit=5", "limit"),
    ("nonsense=1", "nonsense"),
    ("Limit=1", "Limit"),
]


@pytest.mark.parametrize("path", ["/v1/plans", "/v1/organizations", "/v1/api-keys", "/v1/audit-log"])
async def test_an_invalid_query_is_named(ops: Caller, path: str) -> None:
    """400 that names the parameter; an unknown one is not ignored."""
    for query, field in WRONG_QUERIES:
        answer = await ops("GET", f"{path}?{query}")
        assert (answer.status, code(answer), fields(answer)) == (400, "invalid_query", [field]), query


async def test_a_change_asks_for_the_version_that_was_read(ops: Caller) -> None:
    """If-Match allows a change only of the version it names, so that of two changes of one version one is refused."""
    key = await new_key(ops)
    await made(await ops("POST", "/v1/plans", {"name": "gold"}))
    for path, body in (
        ("/v1/plans/gold", {"daily_quota": 5}),
        ("/v1/organizations/acme", {"daily_quota": 5}),
        (f"/v1/api-keys/{key['id']}", {"name": "x"}),
    ):
        etag = (await ops("GET", path))["etag"]
        first = await ops("PATCH", path, body, more=f"If-Match: {etag}\r\n".encode())
        assert first.status == 200
        now = first["etag"]
        zeros = now.replace('"', '"0', 1)
        for stale in (etag, '"99999999999999999999"', '"x"', f"W/{now}", zeros, f'"x,", {etag},{zeros}', '"\u00e9"'):
            refused = await ops("PATCH", path, body, more=f"If-Match: {stale}\r\n".encode())
            assert (refused.status, code(refused)) == (412, "version_mismatch"), stale
        assert (await ops("PATCH", path, body, more=b"If-Match: *\r\n")).status == 200
    for verb in ("disable", "enable"):
        refused = await ops("POST", f"/v1/api-keys/{key['id']}/{verb}", more=b'If-Match: "77"\r\n')
        assert refused.status == 412


async def test_preconditions_with_several_versions(ops: Caller) -> None:
    """If-Match and If-None-Match may name several versions, in one line or more; weak ones count in the second only."""
    path = "/v1/plans/default"

    async def asked(lines: str) -> int:
        etag = (await ops("GET", path))["etag"]
        more = lines.replace("NOW", etag).replace("\n", "\r\n") + "\r\n"
        return (await ops("PATCH", path, {"daily_quota": 5}, more=more.encode())).status

    for lines in ('If-Match: "x", NOW', "If-Match: NOW,", 'If-Match: "x"\nIf-Match: NOW', "If-Match: W/NOW, NOW"):
        assert await asked(lines) == 200, lines
    for lines in ('If-None-Match: "x"', 'If-None-Match: W/"0", "x"', 'If-Match: NOW\nIf-None-Match: "x"'):
        assert await asked(lines) == 200, lines
    for lines in (
        "If-None-Match: *",
        "If-None-Match: NOW",
        'If-None-Match: "x", W/NOW',
        "If-Match: *\nIf-None-Match: NOW",
    ):
        assert await asked(lines) == 412, lines
    assert await asked("If-Match: NOW\nIf-Unmodified-Since: Tue, 01 Jan 2030 00:00:00 GMT") == 200


async def test_a_version_that_is_current_is_not_sent_again(ops: Caller) -> None:
    """GET with If-None-Match of the version that still holds is 304 without a body; with any other it is answered."""
    key = await new_key(ops)
    for path in ("/v1/plans/default", "/v1/organizations/acme", f"/v1/api-keys/{key['id']}"):
        etag = (await ops("GET", path))["etag"]
        for same in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            answer = await ops("GET", path, more=f"If-None-Match: {same}\r\n".encode())
            assert (answer.status, answer["etag"], answer.body) == (304, etag, b"")
        for other in ('"x"', etag.replace('"', '"0', 1)):
            assert (await ops("GET", path, more=f"If-None-Match: {other}\r\n".encode())).status == 200


@pytest.mark.parametrize(
    "line",
    [
        b"If-Match: 1",
        b'If-Match: "1" "2"',
        b'If-Match: "1',
        b"If-Match:",
        b"If-Match: ,",
        b'If-Match: *, "1"',
        b'If-Match: w/"1"',
        b'If-None-Match: "1" x',
        b"If-None-Match: 1",
        b'If-Match: "1"' + b"," * 4000 + b"x",
    ],
)
async def test_a_precondition_that_cannot_be_read_is_refused(ops: Caller, line: bytes) -> None:
    """A precondition that is not a list of ETags is 400, and at once."""
    answer = await ops("PATCH", "/v1/plans/default", {"burst": 20}, more=line + b"\r\n")
    assert (answer.status, code(answer)) == (400, "invalid_header")
    assert fields(answer) == [line.partition(b":")[0].decode()]


async def test_unsupported_preconditions_are_refused(ops: Caller) -> None:
    """A precondition where none is supported, a date, and an idempotency key: 400, and nothing is done."""
    since = b"If-Unmodified-Since: Tue, 01 Jan 2030 00:00:00 GMT"
    for method, path, line, said in (
        ("DELETE", "/v1/plans/default", b'If-Match: "1"', "invalid_header"),
        ("DELETE", "/v1/plans/default", b'If-None-Match: "9"', "invalid_header"),
        ("POST", "/v1/plans", b"If-None-Match: *", "invalid_header"),
        ("GET", "/v1/plans", b'If-None-Match: "1"', "invalid_header"),
        ("PATCH", "/v1/plans/default", since, "invalid_header"),
        ("GET", "/v1/plans/default", since, "invalid_header"),
        ("POST", "/v1/plans", b"Idempotency-Key: 1", "unsupported_header"),
        ("PATCH", "/v1/plans/default", b"idempotency-key:", "unsupported_header"),
        ("DELETE", "/v1/plans/default", b'Idempotency-Key: "a"', "unsupported_header"),
    ):
        body = {"POST": {"name": "once"}, "PATCH": {"burst": 7}}.get(method)
        answer = await ops(method, path, body, more=line + b"\r\n")
        assert (answer.status, code(answer)) == (400, said), line
        assert [field.lower() for field in fields(answer)] == [line.partition(b":")[0].decode().lower()]
    assert (await ops("GET", "/v1/plans", more=b"Idempotency-Key: 1\r\n")).status == 200
    assert [plan["name"] for plan in value(await ops("GET", "/v1/plans"))["items"]] == ["default"]
    assert value(await ops("GET", "/v1/plans/default"))["burst"] == 20


async def test_whole_numbers(ops: Caller) -> None:
    """5.0 is an integer, as in JSON Schema; a fraction, an infinite or an out-of-range number is named."""
    body = b'{"name": "gold", "rate": "1/s", "burst": 5.0, "daily_quota": 1e3, "monthly_quota": -0.0}'
    made_of = value(await ops.raw("POST", "/v1/plans", body))
    assert (made_of["burst"], made_of["daily_quota"], made_of["monthly_quota"]) == (5, 1000, 0)
    for text in (b"5.5", b"1e400", b"-1e400", b"1e300", b"true", b'"5"', b"-1.0"):
        answer = await ops.raw("PATCH", "/v1/plans/gold", b'{"burst": %b}' % text)
        assert (answer.status, fields(answer)) == (422, ["burst"]), text


async def test_methods_and_paths(ops: Caller) -> None:
    """405 names what is allowed, 404 is for everything else, HEAD is GET without a body."""
    for method, path, allow in (
        ("DELETE", "/v1/plans", "GET, HEAD, POST"),
        ("PUT", "/v1/plans/default", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/api-keys/import", "POST"),
        ("GET", "/v1/api-keys/x/revoke", "POST"),
        ("OPTIONS", "/v1/audit-log", "GET, HEAD"),
        ("TRACE", "/v1/peppers", "GET, HEAD"),
    ):
        answer = await ops(method, path)
        assert (answer.status, code(answer), answer["allow"]) == (405, "method_not_allowed", allow)
    for path in (
        "/v1", "/v1/", "/v1/plan", "/v1/plans/", "/v1/plans/a/b", "/v1/plans/%00", "/v1/plans/%ff", "/v1//plans",
        "/v1/plans/a%0d%0ab", "/v1/plans/" + "x" * 5000, "/v1/organizations/%F0%9F%A6%8A",
        "/v1/api-keys/nonsense", "/v1/api-keys/%2F", f"/v1/api-keys/{UUID(int=0)}",
    ):  # fmt: skip
        answer = await ops("GET", path)
        assert (answer.status, code(answer)) == (404, "not_found"), path
    async with wire(ops.port) as connection:
        connection.send(call("HEAD", "/v1/plans/default"))
        head = await connection.answer(to_head=True)
        assert (head.status, head["etag"]) == (200, '"1"')


async def test_bodies_of_64_kib(ops: Caller) -> None:
    """A larger body is refused, announced or in chunks, and its connection closed; one of that size is read."""
    largest = json.dumps({"name": "x"}).encode().ljust(65_536)
    assert (await ops.raw("POST", "/v1/plans", largest)).status == 201
    chunked = bearer() + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    for data in (
        call("POST", "/v1/plans", largest + b" "),
        b"POST /v1/plans HTTP/1.1\r\nHost: here\r\n" + chunked + chunk * 4 + b"1\r\n \r\n",
    ):
        async with wire(ops.port) as connection:
            answer = check_form(await connection.ask(data))
            assert (answer.status, code(answer)) == (413, "body_too_large")
            assert await connection.ended() == b""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"Content-Type: application/json; charset=utf-16\r\n",
        b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        b"Content-Type: nonsense\r\n",
    ],
)
async def test_a_body_is_json(ops: Caller, line: bytes) -> None:
    """Anything but application/json in UTF-8 is 415, which no HTML form can send."""
    head = b"POST /v1/plans HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n" + bearer() + line
    answer = check_form(await ask(ops.port, head + b"\r\n{}"))
    assert (answer.status, code(answer)) == (415, "unsupported_media_type")


async def test_requests_without_a_body(ops: Caller) -> None:
    """A missing body is refused where one is needed; elsewhere an empty object is accepted, and no other body."""
    for body, status in ((b"", 400), (b"null", 400), (b"[]", 400), (b"{}", 422)):
        assert (await ops.raw("POST", "/v1/plans", body)).status == status
    key = await new_key(ops)
    for body, status in ((b"", 200), (b"{}", 200), (b"null", 400), (b"[]", 400), (b'{"a": 1}', 422)):
        assert (await ops.raw("POST", f"/v1/api-keys/{key['id']}/disable", body)).status == status
        assert (await ops.raw("GET", "/v1/plans", body)).status == status


async def test_a_body_that_breaks_off(ops: Caller) -> None:
    """Half a body changes nothing, and malformed chunks are the client's mistake."""
    head = b"POST /v1/plans HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n" + bearer()
    answer = await ask(ops.port, head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}")
    assert answer.status == 400
    async with wire(ops.port) as connection:
        connection.send(head + b"Content-Length: 20\r\n\r\n" + b'{"name": "half"}')
        connection.half_close()
        await connection.ended()
    assert (await ops("GET", "/v1/plans/half")).status == 404


async def test_strange_texts_are_kept_or_refused(ops: Caller) -> None:
    """Control characters, half characters and 10 KiB are refused; quotes, braces and emoji come back as they were."""
    await ops("POST", "/v1/organizations", {"name": "acme"})
    for text in ('"', "'; DROP TABLE plans; --", "{}", "%s", "%(name)s", "\\", "🦊", "ß" * 255, " "):
        key = await made(await ops("POST", "/v1/api-keys", {"organization_id": "acme", "name": text}))
        assert key["name"] == text
        again = await ops("PATCH", f"/v1/api-keys/{key['id']}", {"metadata": {text[:64]: text + "\r\n"}})
        assert value(again)["metadata"] == {text[:64]: text + "\r\n"}
    for text in ("\x00", "a\r\nb", "\ud800", "x" * 10_240, "\x7f"):
        for path, body in (
            ("/v1/plans", {"name": text}),
            ("/v1/organizations", {"name": text}),
            ("/v1/organizations", {"name": "x", "plan": text}),
            ("/v1/api-keys", {"organization_id": text}),
            ("/v1/api-keys", {"organization_id": "acme", "name": text}),
            ("/v1/api-keys", {"organization_id": "acme", "permissions": {text: ["read"]}}),
        ):
            assert (await ops("POST", path, body)).status == 422, (path, text[:9])


async def test_many_at_once(ops: Caller) -> None:
    """Calls at the same time do not mix: each thing is made once, each answer is its own."""
    names = [f"plan {number}" for number in range(10)]
    answers = await asyncio.gather(*(ops("POST", "/v1/plans", {"name": name}) for name in names * 2))
    assert sorted(answer.status for answer in answers) == [201] * 10 + [409] * 10
    assert [value(answer)["name"] for answer in answers if answer.status == 201] == [
        name for name, answer in zip(names * 2, answers, strict=True) if answer.status == 201
    ]
