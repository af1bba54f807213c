"""The life of a key by commands, against real PostgreSQL and Redis."""

import os
import pwd
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from extauthz.core.credentials import KeyFormat, Pepper
from tests.servers.shell import Here

PEPPERS = {name: f"pepper {name} of the tests: 32 bytes or more" for name in ("p1", "p2", "p3")}
KEY_FORMAT = KeyFormat(prefix="xa", env="live", peppers=[Pepper("p1", PEPPERS["p1"].encode())])


def peppers(*names: str) -> str:
    return ",".join(f"{name}:{PEPPERS[name]}" for name in names)


@pytest.fixture
def here(tmp_path: Path, database: str, redis_url: str) -> Here:
    folder = tmp_path / "a folder"
    folder.mkdir()
    settings = {"DATABASE_URL": database, "REDIS_URL": redis_url, "EXTAUTHZ_KEY_PEPPER": peppers("p1")}
    here = Here(folder, settings)
    here.json("orgs", "create", "acme")
    return here


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_new_key_as_text(here: Here) -> None:
    """Without `--json` the key stands alone on its line, with the note that it will not be shown again."""
    done = here.run("keys", "create", "acme")
    assert re.search(r"^key +xa_live_[0-9A-Za-z]{33}$", done.stdout, re.MULTILINE)
    assert "permissions   *:read *:write\n" in done.stdout
    assert "it will not be shown again" in done.stdout
    listed = here.run("keys", "list", "acme").stdout.splitlines()
    assert listed[0].split() == ["ID", "NAME", "KEY", "PERMISSIONS", "STATUS", "EXPIRES", "LAST", "USED"]
    assert re.match(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} ", listed[1])
    assert re.search("active  never +never$", listed[1])


def test_terms(here: Here) -> None:
    """A key carries metadata and limits of its own."""
    created = here.json("keys", "create", "acme", "--metadata", "team=billing", "--metadata", "owner=Zoë")
    assert created["metadata"] == {"team": "billing", "owner": "Zoë"}
    assert (created["rate"], created["burst"], created["daily_quota"], created["monthly_quota"]) == (None,) * 4
    limited = here.run("keys", "create", "acme", "--rate", "5", "--burst", "7", "--monthly-quota", "1")
    assert (limited.returncode, limited.stderr) == (0, "")
    assert re.search(r"^own limits +--rate 5/s --burst 7 --monthly-quota 1$", limited.stdout, re.MULTILINE)
    shown = here.run("keys", "show", created["id"]).stdout
    assert re.search(r"^metadata +owner=Zoë, team=billing$", shown, re.MULTILINE)
    assert "own limits" not in shown


def test_update(here: Here) -> None:
    """An update changes what is named and nothing else; maps are replaced whole; `none` clears."""
    made = here.json("keys", "create", "acme", "--name", "ci", "--metadata", "a=b", "--expires-in", "30d")
    del made["key"]
    key_id = made["id"]
    changed = here.json("keys", "update", key_id, "--permission", "api:read", "--metadata", "c=d")
    ours = {"permissions": {"api": ["read"]}, "metadata": {"c": "d"}}
    assert changed == {**made, **ours, "updated_at": changed["updated_at"], "version": made["version"] + 1}
    assert moment(changed["updated_at"]) > moment(made["updated_at"])
    cleared = here.json("keys", "update", key_id, "--expires-at", "none", "--metadata", "none", "--name", "")
    assert (cleared["expires_at"], cleared["metadata"], cleared["name"]) == (None, {}, "")
    limited = here.run("keys", "update", key_id, "--rate", "5", "--burst", "7")
    assert (limited.returncode, limited.stderr) == (0, "")
    unlimited = here.json("keys", "update", key_id, "--rate", "none", "--burst", "none", "--expires-in", "1h")
    assert (unlimited["rate"], unlimited["burst"]) == (None, None)
    left = moment(unlimited["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert here.json("keys", "show", key_id) == unlimited
    assert "in the past" in here.refused(2, "keys", "update", key_id, "--expires-at", "2020-01-01T00:00:00Z")
    assert "customer" in here.refused(2, "keys", "update", key_id, "--permission", "customer:read")


def test_disable_and_enable(here: Here) -> None:
    """A key is disabled and enabled, as often as the command runs; a revoked one is neither."""
    key_id = here.json("keys", "create", "acme")["id"]
    resting = here.json("keys", "disable", key_id)
    assert (resting["status"], resting["disabled_at"] is None) == ("disabled", False)
    assert here.json("keys", "disable", key_id) == resting
    assert re.search(r"^status +active$", here.run("keys", "enable", key_id).stdout, re.MULTILINE)
    assert here.json("keys", "enable", key_id)["disabled_at"] is None
    assert here.json("keys", "revoke", key_id, "--last")["status"] == "revoked"
    for command in (("disable",), ("enable",), ("update", "--name", "x"), ("rotate",)):
        assert "revoked" in here.refused(1, "keys", command[0], key_id, *command[1:])
    nobody = "00000000-0000-0000-0000-000000000000"
    assert "no key" in here.refused(1, "keys", "disable", nobody)


def test_rotate(here: Here) -> None:
    """A new key on the old terms is shown once; the old one ends with the grace period and names its successor."""
    made = here.json("keys", "create", "acme", "--name", "ci", "--permission", "api:read", "--metadata", "a=b")
    new = here.json("keys", "rotate", made["id"], "--grace", "15m")
    key, old = new.pop("key"), new.pop("old")
    assert KEY_FORMAT.plausible(key)
    assert key != made["key"]
    assert [new[part] for part in ("name", "permissions", "metadata", "expires_at")] == [
        made[part] for part in ("name", "permissions", "metadata", "expires_at")
    ]
    assert (old["id"], old["rotated_to"], old["status"]) == (made["id"], new["id"], "active")
    left = moment(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    assert here.json("keys", "show", new["id"]) == new
    assert here.json("keys", "show", old["id"]) == old
    assert new["id"] in here.refused(1, "keys", "rotate", made["id"])
    again = here.run("keys", "rotate", new["id"], "--expires-in", "30d")
    assert re.search(r"^key +xa_live_[0-9A-Za-z]{33}$", again.stdout, re.MULTILINE)
    assert re.search(rf"^The old key {new['id']} works until 20\S+Z\.$", again.stdout, re.MULTILINE)
    assert re.search(r"^rotated to +[0-9a-f-]{36}$", here.run("keys", "show", new["id"]).stdout, re.MULTILINE)


def test_repepper(here: Here) -> None:
    """The report has the number of keys of each pepper, also of one that the configuration lacks."""
    here.json("keys", "create", "acme")
    ended = here.json("keys", "create", "acme", EXTAUTHZ_KEY_PEPPER=peppers("p2"))
    here.json("keys", "revoke", ended["id"])
    here.json("keys", "create", "acme", EXTAUTHZ_KEY_PEPPER=peppers("p2"))
    report = here.json("keys", "repepper", "--report", EXTAUTHZ_KEY_PEPPER=peppers("p3", "p1"))
    assert report == [
        {"id": "p3", "configured": True, "signs": True, "keys": 0, "usable": 0},
        {"id": "p1", "configured": True, "signs": False, "keys": 1, "usable": 1},
        {"id": "p2", "configured": False, "signs": False, "keys": 2, "usable": 1},
    ]
    table = here.run("keys", "repepper", "--report", EXTAUTHZ_KEY_PEPPER=peppers("p3", "p1")).stdout.splitlines()
    assert [line.split() for line in table] == [
        ["PEPPER", "ROLE", "KEYS", "USABLE"],
        ["p3", "signs", "0", "0"],
        ["p1", "verifies", "1", "1"],
        ["p2", "missing", "2", "1"],
    ]


def test_a_key_is_shown_with_the_name_of_its_organization(here: Here) -> None:
    """The text of a key or of usage has the name of the organization beside its id; JSON has the id."""
    made = here.json("keys", "create", "acme")
    here.json("keys", "create", "acme")
    line = re.compile(rf"^organization +acme \({made['organization_id']}\)$", re.MULTILINE)
    id_ = made["id"]
    for words in (
        ("keys", "create", made["organization_id"]),
        *(("keys", verb, id_) for verb in ("show", "disable", "enable", "rotate", "revoke")),
        ("usage", made["organization_id"]),
    ):
        assert line.search(here.run(*words).stdout), words
    assert line.search(here.run("keys", "update", here.json("keys", "create", "acme")["id"], "--name", "x").stdout)
    assert here.json("usage", "acme")["organization_id"] == made["organization_id"]


def test_audit(here: Here) -> None:
    """Every change is listed with its actor, newest first, of all organizations or of one, and no digest."""
    here.json("orgs", "create", "other")
    made = here.json("keys", "create", "acme", "--name", "ci")
    here.json("keys", "update", made["id"], "--name", "deploy")
    here.json("keys", "revoke", made["id"], "--last")
    entries = here.json("audit", "--org", "acme")
    assert [entry["action"] for entry in entries] == [
        "api_key.revoke",
        "api_key.update",
        "api_key.create",
        "organization.create",
    ]
    assert {entry["actor"] for entry in entries} == {f"cli:{pwd.getpwuid(os.getuid()).pw_name}"}
    assert entries[1]["diff"] == {"name": ["ci", "deploy"]}
    assert [entry["id"] for entry in here.json("audit", "--limit", "2")] == [entry["id"] for entry in entries[:2]]
    assert "organization.create" in {entry["action"] for entry in here.json("audit", "--org", "other")}
    table = here.run("audit").stdout
    assert table.splitlines()[0].split() == ["AT", "BY", "ACTION", "OF", "CHANGES"]
    assert re.search(rf" api_key\.update +{made['id']} \(deploy\) +name: ci -> deploy$", table, re.MULTILINE)
    assert re.search(r" api_key\.revoke +\S+ \(deploy\) +revoked_at: none -> 20\S+$", table, re.MULTILINE)
    assert re.search(r" organization\.create +other +anchor: 1, limits: enforce, name: other, plan", table)
    assert KEY_FORMAT.digest(made["key"]).digests[0] not in table
    user = pwd.getpwuid(os.getuid()).pw_name
    assert here.json("audit", "--key", made["id"], "--by", user, "--since", "1h") == entries[:3]
    assert here.json("audit", "--since", "2100-01-01T00:00:00Z") == []
    assert "No change fits these filters." in here.run("audit", "--by", "nobody else").stderr
    here.json("plans", "create", "gold", "--rate", "1", "--burst", "10")
    assert [entry["subject_name"] for entry in here.json("audit", "--plan", "gold")] == ["gold"]
    assert "(did you mean 'gold'?)" in here.refused(1, "audit", "--plan", "Gold")
    assert "no key has the id" in here.refused(1, "audit", "--key", made["organization_id"])
    for text in ("yesterday", "1w", "2026-01-31", "2026-01-31T12:00:00", "-1h", ""):
        assert f"(got {text!r})" in here.refused(2, "audit", "--since", text)
    assert "'nobody'" in here.refused(1, "audit", "--org", "nobody")
    assert "(did you mean 'other'?)" in here.refused(1, "audit", "--org", "Other")


def test_organization_gets_another_name(here: Here) -> None:
    """An organization keeps its id and its keys under another name."""
    made = here.json("keys", "create", "acme")
    renamed = here.json("orgs", "update", "acme", "--name", "Acme Inc")
    assert (renamed["name"], renamed["id"]) == ("Acme Inc", made["organization_id"])
    assert [key["id"] for key in here.json("keys", "list", "Acme Inc")] == [made["id"]]
    assert "'acme'" in here.refused(1, "orgs", "show", "acme")


@pytest.mark.parametrize(
    "command",
    [
        ("plans", "list"),
        ("plans", "create", "gold", "--rate", "1", "--burst", "1"),
        ("orgs", "show", "acme"),
        ("keys", "list", "acme"),
        ("keys", "create", "acme"),
        ("keys", "repepper", "--report"),
        ("usage", "acme"),
        ("audit", "--json"),
    ],
)
def test_keys_that_are_kept_elsewhere(here: Here, command: tuple[str, ...]) -> None:
    """Where keys come from tables of another application, every command about them says so and does nothing."""
    sql = "SELECT * FROM theirs WHERE sha256 = %(sha256)s"
    (here.folder / "theirs.toml").write_text(f'[keys]\nlookup_sql = "{sql}"\n')
    said = here.refused(1, *command, "--config", "theirs.toml")
    assert said == "keys come from [keys] lookup_sql; manage them where they are kept"
