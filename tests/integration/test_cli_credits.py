"""`extauthz orgs credits` and `extauthz keys credits`, against real PostgreSQL and Redis."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.servers.shell import Here

PEPPER = "a pepper of the tests: 32 bytes or more"
ID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def here(tmp_path: Path, database: str, redis_url: str) -> Here:
    here = Here(tmp_path, {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": f"p1:{PEPPER}"})
    here.json("orgs", "create", "acme")
    return here


def test_credits_of_an_organization(here: Here) -> None:
    """They are shown, topped up, set and removed, for programs and on a terminal; the reason is in the audit log."""
    none = here.json("orgs", "credits", "acme")
    assert (none["granted"], none["used"], none["left"]) == (None, 0, None)
    assert here.json("orgs", "credits", "acme", "add", "1000", "--reason", "trial")["left"] == 1000
    with psycopg.connect(here.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("INSERT INTO credits_used VALUES (%s, %s, 30)", (none["id"], "0" * 32))
    shown = here.run("orgs", "credits", "acme", "show").stdout
    for label, text in (("granted", "1000"), ("used", "30"), ("left", "970")):
        assert re.search(rf"^{label} +{text}$", shown, re.MULTILINE)
    assert here.json("orgs", "credits", "acme", "set", "40")["left"] == 10
    assert here.json("orgs", "credits", "acme", "set", "none")["granted"] is None
    entries = here.json("audit", "--org", "acme")
    assert [(each["action"], each["reason"]) for each in entries] == [
        *[("organization.credits", None)] * 2,
        ("organization.credits", "trial"),
        ("organization.create", None),
    ]


def test_credits_of_a_key(here: Here) -> None:
    """They are apart from its organization's."""
    key = here.json("keys", "create", "acme")
    assert here.json("keys", "credits", key["id"], "add", "5")["granted"] == 5
    assert here.json("orgs", "credits", "acme")["granted"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("acme", "add"), "add needs a number"),
        (("acme", "set"), "set needs a number"),
        (("acme", "show", "5"), "show takes no number"),
        (("acme", "add", "none"), "credits must be a whole number"),
        (("acme", "add", "0"), "add must be a whole number from 1"),
        (("acme", "set", "1e3"), "credits must be a whole number"),
    ],
)
def test_mistakes(here: Here, arguments: tuple[str, ...], words: str) -> None:
    """They are refused in words that say what is to be given."""
    assert words in here.refused(2, "orgs", "credits", *arguments)
