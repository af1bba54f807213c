"""Rules and alerts, checked by Prometheus's own tools on written series: which alerts fire and which do not."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from extauthz.demo.folders import temporary_folder
from extauthz.demo.prometheus import CONFIGURATION, prometheus_files
from tests.servers.distribution import distribution_server
from tests.servers.rules import ALERTS, FOLDER, RULES, rules

CASES = [Path(__file__).with_name("prometheus") / name for name in ("alerts.yml", "budgets.yml")]


def promtool(*arguments: str | Path) -> str:
    """What promtool says of something that it finds right."""
    done = subprocess.run(
        [distribution_server("promtool"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def cases() -> list[dict[str, Any]]:
    """Every case of the files."""
    return [case for file in CASES for case in yaml.safe_load(file.read_text("utf-8"))["tests"]]


def test_rules_are_right() -> None:
    """`promtool check rules`, which also expands each annotation once."""
    said = promtool("check", "rules", RULES, ALERTS)
    for file in (RULES, ALERTS):
        assert f"{len(rules(file))} rules found" in said


def test_the_configuration_is_right() -> None:
    """`promtool check config` of the shipped file, and of what `make monitor` makes of it."""
    assert "SUCCESS" in promtool("check", "config", FOLDER / CONFIGURATION)
    with temporary_folder("extauthz test ") as folder:
        for name, text in prometheus_files("127.0.0.1:9000", port=9090, interval="1s").items():
            (folder / name).write_text(text, "utf-8")
        assert "SUCCESS" in promtool("check", "config", folder / CONFIGURATION)


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """Each case is named after its alert; not each of its series is in what fires."""
    assert [case["name"] for case in cases()] == sorted(
        {rule["alert"] for rule in rules(ALERTS)}, key=[case["name"] for case in cases()].index
    )
    for case in cases():
        fired = case["promql_expr_test"][-1]["exp_samples"]
        assert fired, case["name"]
        assert len(case["input_series"]) > len(fired), case["name"]


def test_labels_that_annotations_name_are_those_of_the_alert() -> None:
    """An annotation with a label that its alert does not have would have a hole in it."""
    expected = {case["name"]: case["promql_expr_test"][-1]["exp_samples"] for case in cases()}
    for rule in rules(ALERTS):
        words = " ".join(rule["annotations"].values())
        for label in {word.partition("$labels.")[2].split()[0] for word in words.split("{{")[1:] if "$labels." in word}:
            assert any(f'{label}="' in sample["labels"] for sample in expected[rule["alert"]]), (rule["alert"], label)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should(file: Path) -> None:
    """`promtool test rules`."""
    assert "SUCCESS" in promtool("test", "rules", file)
