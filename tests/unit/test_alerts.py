"""Rules, alerts and their pages, as Prometheus and operators read them."""

import re
import shlex
from collections import Counter
from itertools import pairwise, takewhile
from typing import Any

import pytest
from typer.main import get_command

from extauthz.cli.main import app
from extauthz.demo.stack import ADMIN
from tests.servers.rules import ALERTS, FOLDER, PAGES, ROOT, RULES, Page, expressions, pages, rules, selectors

BASE = "https://example.com/extauthz/"
TABLE = ROOT / "docs" / "howto" / "alerts.md"
SEVERITIES = {"page": "*Page: wakes a person.*", "ticket": "*Ticket: for working hours.*"}
# Programs that pages use beside extauthz; each comes with a server, Prometheus or the system.
PROGRAMS = {"curl", "df", "grep", "journalctl", "openssl", "promtool", "psql", "redis-cli", "systemctl", "timedatectl"}
PATHS = {"/readyz", "/livez", "/metrics"}
SOURCES = "\n".join(file.read_text("utf-8") for file in (ROOT / "extauthz").rglob("*.py"))
BY_ALERT = {rule["alert"]: rule for rule in rules(ALERTS)}

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)


def test_names_are_given_once() -> None:
    """Of alerts, and of recorded series."""
    names = [rule["alert"] for rule in rules(ALERTS)] + [rule["record"] for rule in rules(RULES)]
    assert [name for name, times in Counter(names).items() if times > 1] == []


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    """The address leads to a file, whose title is the alert's name."""
    led_to = {rule["annotations"]["runbook_url"]: rule["alert"] for rule in rules(ALERTS)}
    written = {f"{BASE}{PAGES.relative_to(ROOT)}/{page.name}.md": page.title for page in pages()}
    assert led_to == written


@pytest.mark.parametrize("name", sorted(BY_ALERT))
def test_alert_has_what_operators_need(name: str) -> None:
    """A severity, one line of summary, a description that says more, and its value or labels in one of them."""
    rule = BY_ALERT[name]
    told = rule["annotations"]
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(told) == {"summary", "description", "runbook_url"}
    assert 10 < len(told["summary"]) <= 120
    assert "\n" not in told["summary"]
    assert len(told["description"]) > len(told["summary"])
    assert "{{" in told["summary"] or name == "ExtauthzAbsent"


def test_pages_say_what_their_alert_is() -> None:
    """Its severity, how to see it, what to do."""
    for page in pages():
        severity = SEVERITIES[BY_ALERT[page.title]["labels"]["severity"]]
        assert page.text.splitlines()[2].startswith(severity), page.name
        assert re.findall(r"^## (.+)$", page.text, re.MULTILINE) == ["How to see it", "What to do"], page.name
        assert page.blocks("promql"), page.name


def test_every_expression_is_promql() -> None:
    """Of rules, alerts and pages; each asks for at least one series by name, or is a constant."""
    for place, expression in expressions():
        names = [selector.name for selector in selectors(expression)]
        assert all(names), place
        assert names or expression.startswith("vector("), place


def test_every_alert_looks_at_what_its_page_shows() -> None:
    """A page asks for a series that its alert, or a rule that this is built on, asks for."""
    built_on = {rule["record"]: rule["expr"] for rule in rules(RULES)}

    def series(expression: str) -> set[str]:
        names = {selector.name or "" for selector in selectors(expression)}
        return names.union(*(series(built_on[name]) for name in names & built_on.keys()))

    for page in pages():
        shown = set().union(*(series(block) for block in page.blocks("promql")))
        assert shown & (series(BY_ALERT[page.title]["expr"]) | {"up"}), page.name


@every_page
def test_commands_of_a_page_are_there(page: Page) -> None:
    """Commands of extauthz with their options, paths of the private listener, log lines, and listed programs."""
    for line in "\n".join(page.blocks("sh")).splitlines():
        for part in re.split(r" \| (?=\w)|; ", line):
            words = shlex.split(part)
            if words[0] == "extauthz":
                check_command(words[1:])
            else:
                assert words[0] in PROGRAMS, line
            if words[0] == "grep" and "killed" not in part:
                several = [word for option, word in pairwise(words) if option == "-e"]
                for searched in several or words[-1:]:
                    assert searched in SOURCES, f"no line of the log has {searched!r}"
        for path in re.findall(rf"http://127\.0\.0\.1:{ADMIN}(/\S*)", line):
            assert path in PATHS, line


def check_command(words: list[str]) -> None:
    """Asserts that there is such a command with such options and as many arguments."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"extauthz {name}"
        command = command.commands[name]
    named = {option for parameter in command.params for option in parameter.opts}
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    used = [word for word in words if word.startswith("--")]
    given = list(takewhile(lambda word: word not in used, words))
    assert set(used) <= named, (command.name, used)
    assert len(given) <= len(arguments), (command.name, words)


def test_options_that_pages_name_within_sentences_are_there() -> None:
    """`extauthz …` between backticks is a command, too."""
    found = [code for page in pages() for code in re.findall(r"`extauthz ([^`\n]+)`", page.text)]
    assert found
    for words in found:
        check_command(shlex.split(words))


def test_the_table_names_every_alert_with_its_severity_and_page() -> None:
    """docs/howto/alerts.md is the index: a row for each, in the order of the file."""
    rows = re.findall(r"^\| \[(\w+)\]\(runbooks/([\w-]+)\.md\) \| (\w+) \|", TABLE.read_text("utf-8"), re.MULTILINE)
    expected = [
        (rule["alert"], rule["annotations"]["runbook_url"].rpartition("/")[2].removesuffix(".md"), severity)
        for rule in rules(ALERTS)
        for severity in [rule["labels"]["severity"]]
    ]
    assert rows == expected


def test_the_configuration_reads_these_rules_and_scrapes_the_private_listener() -> None:
    """What `prometheus.yml` names is beside it, and the port is the admin listener's."""
    text = (FOLDER / "prometheus.yml").read_text("utf-8")
    assert {f"- {file.name}" for file in (RULES, ALERTS)} <= {line.strip() for line in text.splitlines()}
    assert f'["extauthz:{ADMIN}"]' in text
