"""Answers give the proxy the subject of the request, for its access log."""

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from extauthz.core.changes import EntityRef
from extauthz.core.failure import OnRedisDown
from extauthz.core.routes import Route
from extauthz.service.health import Health
from extauthz.transports.http.dialect import Answer, Dialect, Wording
from extauthz.transports.http.dialects.envoy import Envoy
from extauthz.transports.http.dialects.forward import Forward
from extauthz.transports.http.dialects.nginx import Nginx
from extauthz.transports.http.handler import CheckHandler
from tests.unit.service.fakes import KEY, NOW, SECRET, FakeService, open_house

PUBLIC = Route("/public/**", public=True)
ANY = Route("/api/{resource}/**")
DIALECTS = (Envoy(Wording()), Nginx(Wording()), Forward(Wording()))
TENANT = EntityRef("organization", KEY.organization_id)
WHOSE = (KEY.organization_id, KEY.id)


async def judged(
    fake_service: FakeService, dialect: Dialect, path: str, *, method: str = "GET", key: str = SECRET
) -> Answer:
    health = Health(postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=OnRedisDown.OPEN)
    handler = CheckHandler(fake_service.service, dialect, deadline=5, health=health)
    received = CIMultiDict(
        {
            "host": "api.example.com",
            "x-original-method": method,
            "x-original-uri": path,
            "x-original-host": "api.example.com",
            "x-forwarded-method": method,
            "x-forwarded-uri": path,
        }
    )
    if key:
        received["authorization"] = f"Bearer {key}"
    return await handler.judge(method, path, received)


def told(answer: Answer) -> tuple[str, str]:
    """Organization and key of an answer, each of which occurs once."""
    (organization,) = [value for name, value in answer.headers if name == "x-extauthz-organization"]
    (key,) = [value for name, value in answer.headers if name == "x-extauthz-key"]
    return organization, key


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_every_answer_has_the_subject(dialect: Dialect) -> None:
    """Allowed, denied by permission, suspension or limits; empty where the subject is unknown."""
    async with open_house(routes=[PUBLIC, ANY]) as fake_service:
        seen = {}
        for name, path, method, key in (
            ("allowed", "/api/customers/7", "GET", SECRET),
            ("not permitted", "/api/nothing/7", "POST", SECRET),
            ("public", "/public/x", "GET", SECRET),
            ("no route", "/elsewhere", "GET", SECRET),
            ("no key", "/api/customers/7", "GET", ""),
        ):
            seen[name] = told(await judged(fake_service, dialect, path, method=method, key=key))
        for _ in range(25):
            limited = await judged(fake_service, dialect, "/api/customers/7")
        seen["limited"] = told(limited)
        fake_service.change(replace(KEY, tenant=replace(KEY.tenant, status="suspended")), *KEY.made_of, TENANT)
        seen["suspended"] = told(await judged(fake_service, dialect, "/api/customers/7"))
    of_nobody = ("", "")
    assert seen == {
        "allowed": WHOSE,
        "not permitted": WHOSE,
        "public": of_nobody,
        "no route": of_nobody,
        "no key": of_nobody,
        "limited": WHOSE,
        "suspended": WHOSE,
    }


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_a_revoked_key_looks_like_an_unknown_one(dialect: Dialect) -> None:
    """A proxy that passes all headers on must not reveal the difference to the client."""
    async with open_house(routes=[ANY]) as fake_service:
        unknown = await judged(fake_service, dialect, "/api/x", key="k" * 30)
        fake_service.store(replace(KEY, revoked_at=NOW))
        assert await judged(fake_service, dialect, "/api/x") == unknown


def test_answer_to_a_malformed_question_has_no_subject() -> None:
    """Its headers of the subject are empty, too."""
    for dialect in DIALECTS:
        fake_service = FakeService()
        health = Health(postgresql=fake_service.postgresql, redis=fake_service.redis, on_redis_down=OnRedisDown.OPEN)
        response = CheckHandler(fake_service.service, dialect, deadline=5, health=health).refuse()
        assert (response.headers["x-extauthz-organization"], response.headers["x-extauthz-key"]) == ("", "")
