"""Contents of the configuration file, and how its mistakes are reported."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from extauthz.config import load
from extauthz.core.errors import ConfigError
from extauthz.core.limits import Limits, Rate

PEPPER = "2026:pepper of these tests: 5b1c9e7f2a"
GIVEN = {
    "DATABASE_URL": "postgresql://app:s3cret@db/app",
    "REDIS_URL": "redis://:s3cret@redis:6379/0",
    "EXTAUTHZ_KEY_PEPPER": PEPPER,
}


def mistakes(environ: Mapping[str, str], file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environ, file)
    assert all(line.isprintable() for line in caught.value.mistakes)
    return caught.value.mistakes


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A configuration file in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    return folder / "config.toml"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[settings\n", "is not valid TOML at line 1, column 10"),
        (b'[settings]\nkey_pepper = "s3cret', "is not valid TOML at end of document"),
        (b"a = \xff", "is not UTF-8 (byte 4)"),
        (b"a = " + b"9" * 5000, "is not valid TOML"),
        (b"[" * 5000, "is not valid TOML"),
    ],
)
def test_files_that_are_not_toml(toml: Path, text: bytes, line: str) -> None:
    """A file that cannot be parsed is the one mistake, with its position, without its content."""
    toml.write_bytes(text)
    found = mistakes({}, toml)
    assert found[0].startswith(f"{toml}: is not")
    assert re.sub(r" at .*", "", line) in found[0]
    assert "s3cret" not in found[0]
    assert len(found) == 1


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    """A missing file or a folder is named, and its settings are not reported missing."""
    assert mistakes({"EXTAUTHZ_CONFIG": "/nowhere.toml"}) == (
        "/nowhere.toml: cannot be read: No such file or directory",
    )
    assert mistakes({}, tmp_path) == (f"{tmp_path}: must be a plain file (got a folder)",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("routes = 1", "routes: must be tables, each under [[routes]]"),
        ("routes = [1]", "[[routes]] 1: must be a table, under [[routes]]"),
        ("settings = 1", "settings: must be a table, [settings]"),
        ("route = 1", "route: unknown; did you mean routes?"),
        ("[[routes]]\nresource = 'a'", "[[routes]] 1 path: required"),
        ("[[routes]]\npath = '/a'\nmethod = 'GET'", "[[routes]] 1 method: unknown; did you mean methods?"),
        ("[[routes]]\npath = '/a'\nmethods = 'GET'", "[[routes]] 1 methods: must be a list of strings"),
        ("[[routes]]\npath = '/a'\nmethods = [1]", "[[routes]] 1 methods: must be a list of strings"),
        ("[[routes]]\npath = '/a'\npublic = 'yes'", "[[routes]] 1 public: must be true or false, without quotes"),
        ("[[routes]]\npath = '/a'\nlimit = 'shadow'", "[[routes]] 1 limit: unknown; did you mean limits?"),
        ("[[routes]]\npath = '/a'\nlimits = false", "[[routes]] 1 limits: must be a string"),
        (
            f"[settings]\nworkers = 0x{'f' * 5000}",
            f"[settings] workers: '0x{'f' * 38}...' must be a whole number from 1",
        ),
        ("[settings]\nworkers = 2026-01-01", "[settings] workers: must be a string, a number, true or false"),
        ("[settings]\nextauthz_workers = 1", "[settings] extauthz_workers: unknown; did you mean workers?"),
        ("[settings]\nconfig = 'x'", "[settings] config: unknown"),
        ("keys = 'SELECT 1'", "keys: must be a table, [keys]"),
        ("[keys]", "[keys] lookup_sql: required"),
        ("[keys]\nlookup = 'SELECT 1'", "[keys] lookup: unknown; did you mean lookup_sql?"),
        ("[keys]\nlookup_sql = 7", "[keys] lookup_sql: must be a string"),
        ("[keys]\nlookup_sql = ' \t'", "[keys] lookup_sql: must not be empty; leave [keys] out"),
        ("[keys]\nlookup_sql = 'SELECT 1'", "[keys] lookup_sql: must have %(sha256)s, which becomes the hex SHA-256"),
        ("[keys]\nlookup_sql = 'a %%(sha256)s'", "[keys] lookup_sql: must have %(sha256)s"),
        ("[keys]\nlookup_sql = '%(sha256)s 5 % 3'", "[keys] lookup_sql: a percent sign is written %%"),
        ("[keys]\nlookup_sql = '%(sha256)s %(sha1)s'", "[keys] lookup_sql: a percent sign is written %%"),
        ("[settings]\nkey_pepper = 'a'\nkey_pepper_file = 'b'", "[settings] key_pepper_file: must not be set together"),
        (
            "[settings]\nadmin_token_file = 'a\\u0000'".replace("'", '"'),
            "[settings] admin_token_file: must be the path",
        ),
    ],
)
def test_mistakes_in_the_file(toml: Path, text: str, line: str) -> None:
    """Every level of the file is checked for unknown keys and wrong types."""
    toml.write_text(text)
    assert mistakes(GIVEN, toml)[0].startswith(f"{toml} {line}")


@pytest.mark.parametrize("key", ["cost", "burst"])
@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("nan", ", without quotes"),
        ("inf", ", without quotes"),
        ("-inf", ", without quotes"),
        ("1.5", ", without quotes"),
        ("1e400", ", without quotes"),
        ("1.0", ", without quotes"),
        ("true", ", without quotes"),
        ("'1'", ", without quotes"),
        ("0", " from 1 to 1000000000, not 0"),
        ("-1", " from 1 to 1000000000, not -1"),
        ("1_000_000_001", " from 1 to 1000000000, not 1000000001"),
        (f"{2**53 + 1}", f" from 1 to 1000000000, not {2**53 + 1}"),
        (f"0x{'f' * 5000}", " from 1 to 1000000000, not one of more than 64 bits"),
    ],
)
def test_numbers_that_no_bucket_can_count(toml: Path, key: str, number: str, reason: str) -> None:
    """A cost or a burst that must be a whole number from 1 to 10⁹ stops the start, with the reason."""
    others = {"cost": "resource = 'a'", "burst": "public = true\nrate = '1'"}
    toml.write_text(f"[[routes]]\npath = '/a'\n{others[key]}\n{key} = {number}\n")
    assert mistakes(GIVEN, toml) == (f"{toml} [[routes]] 1 {key}: must be a whole number{reason}",)


@pytest.mark.parametrize("rate", ["60", "0.5", "nan", "inf", "-1", "true", "['1']"])
def test_rates_must_be_text(toml: Path, rate: str) -> None:
    """A rate is text, because a TOML number cannot express it exactly and with its period."""
    toml.write_text(f"[[routes]]\npath = '/a'\npublic = true\nburst = 1\nrate = {rate}\n")
    assert mistakes(GIVEN, toml) == (f'{toml} [[routes]] 1 rate: must be a string, like "60/min"',)


def test_limits_of_a_route(toml: Path) -> None:
    """`limits`, `rate` and `burst` of the file reach the routes."""
    toml.write_text(
        "[[routes]]\npath = '/p'\npublic = true\nrate = '60/min'\nburst = 30\n"
        "[[routes]]\npath = '/{resource}'\nlimits = 'shadow'\n"
    )
    routes = load(GIVEN, toml).routes
    public, api = routes.match("GET", None, "/p"), routes.match("GET", None, "/a")
    assert public is not None
    assert public.bucket is not None
    assert public.bucket.limits == Limits(rate=Rate(60, 60), burst=30)
    assert api is not None
    assert (public.shadow, api.shadow) == (False, True)


def test_routes_of_the_file(toml: Path) -> None:
    """The file's routes replace the default one; a file without routes keeps it; an empty list allows nothing."""
    toml.write_text(
        "[[routes]]\npath = '/v1/{resource}/**'\nmethods = ['GET', 'HEAD']\nhost = 'h'\ncost = 3\ncache = false\n"
        "mode = 'write'\n[[routes]]\npath = '/p'\npublic = true\n[resources]\ncustomers = 'customer'\n"
    )
    routes = load(GIVEN, toml).routes
    assert routes.match("GET", "h", "/v1/customers/1") == (
        *("customer", "write", 3, False, False, False, None),
        "/v1/{resource}/**",
    )
    assert routes.match("GET", None, "/other") is None
    toml.write_text("[settings]\n")
    assert set(load(GIVEN, toml).routes.resources) == {"api"}
    toml.write_text("routes = []\n")
    assert load(GIVEN, toml).routes.match("GET", None, "/") is None


def test_statement_for_foreign_tables(toml: Path) -> None:
    """`[keys] lookup_sql` is taken as written, and `effective` shows its first line; no variable sets it."""
    toml.write_text("[keys]\nlookup_sql = '''\n  SELECT id  \nFROM k WHERE d = %(sha256)s AND v LIKE 'a%%%%'\n'''\n")
    with_keys = load(GIVEN, toml)
    assert with_keys.lookup_sql == "  SELECT id  \nFROM k WHERE d = %(sha256)s AND v LIKE 'a%%%%'\n"
    assert with_keys.effective()[-1] == ("[keys] lookup_sql", "SELECT id", "file")
    toml.write_text("[settings]\n")
    for without in (load(GIVEN, toml), load(GIVEN, None)):
        assert without.lookup_sql == ""
        assert without.effective()[-1] == ("[keys] lookup_sql", "-", "default")
    assert mistakes({**GIVEN, "EXTAUTHZ_LOOKUP_SQL": "SELECT 1"})[0].startswith("EXTAUTHZ_LOOKUP_SQL: unknown")


def test_a_statement_with_a_mistake_is_not_repeated(toml: Path) -> None:
    """All mistakes of `[keys]` are reported at once, without the statement's text."""
    toml.write_text("[keys]\nlookup_sql = 'SELECT s3cret'\ntable = 's3cret'\n")
    found = mistakes(GIVEN, toml)
    assert [line.partition(": ")[0] for line in found] == [f"{toml} [keys] table", f"{toml} [keys] lookup_sql"]
    assert "s3cret" not in "".join(found)
