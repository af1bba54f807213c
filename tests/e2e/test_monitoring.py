"""Rules, alerts and their pages in a real Prometheus that scrapes extauthz under the traffic of `make monitor`."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from extauthz.demo.customers import furnish
from extauthz.demo.folders import temporary_folder
from extauthz.demo.mix import Traffic
from extauthz.demo.monitor import SETTINGS
from extauthz.demo.ports import LOOPBACK, free_port
from extauthz.demo.prometheus import NEVER, Prometheus, prometheus_files
from extauthz.demo.stack import ADMIN, FORWARD_DOOR, Proxy, Stack
from tests.e2e.client import ask
from tests.servers.distribution import distribution_server
from tests.servers.fixtures import paused
from tests.servers.forking import family
from tests.servers.rules import ALERTS, RULES, expressions, recorded, rules, selectors
from tests.servers.serving import LEASING
from tests.servers.waiting import eventually

OF_PROMETHEUS = {"up", "ALERTS"}
POSTGRES_AWAY = "postgresql is away from extauthz"
FOR = re.compile(r"^( +for: )\w+$", re.MULTILINE)
# What has no series where there is no webhook and no TLS.
NOT_HERE = {"extauthz_webhook_oldest_age_seconds", "extauthz_store_certificate_expiry_seconds"}


@dataclass(frozen=True, slots=True)
class Monitored:
    """A stack under traffic, and what watches it."""

    stack: Stack
    traffic: Traffic
    prometheus: Prometheus

    def names(self) -> set[str]:
        """The names under which the service has series, or would have some."""
        text = ask(Proxy("admin", self.stack.ports[ADMIN]), "/metrics").body.decode()
        families = list(text_string_to_metric_families(text))
        sampled = {sample.name for family in families for sample in family.samples}
        return sampled.union(
            *({family.name, f"{family.name}_total"} for family in families if family.type in {"counter", "gauge"})
        )

    def firing(self, alert: str) -> list[dict[str, str]]:
        """The annotations of an alert that fires."""
        return [
            each["annotations"]
            for each in self.prometheus.answer("alerts")["alerts"]
            if each["labels"]["alertname"] == alert and each["state"] == "firing"
        ]


@pytest.fixture(scope="module")
def monitored() -> Iterator[Monitored]:
    """Alerts fire in it as soon as their expression holds: `for` is the one thing that is changed in the rules."""
    program, port = distribution_server("prometheus"), free_port()
    environ = SETTINGS | LEASING
    with temporary_folder("extauthz test ") as folder, Stack(folder, usual_ports=False, environ=environ) as stack:
        customers = asyncio.run(furnish(stack.settings))
        files = prometheus_files(f"{LOOPBACK}:{stack.ports[ADMIN]}", port=port, interval="500ms")
        files["alerts.yml"] = FOR.sub(r"\g<1>0s", files["alerts.yml"])
        forward = Proxy("forward", stack.ports[FORWARD_DOOR])
        with (
            Prometheus(folder / "prometheus", files, port=port, program=program) as prometheus,
            Traffic(customers, stack.proxies, forward) as traffic,
        ):
            yield Monitored(stack, traffic, prometheus)


@pytest.mark.timeout(180)
def test_every_kind_of_traffic_is_decided_as_intended(monitored: Monitored) -> None:
    """Each decision of the mix comes back, and no other."""
    expected = {kind.stop.decision for kind in monitored.traffic.kinds}
    eventually(lambda: set(monitored.traffic.seen) >= expected)
    assert set(monitored.traffic.seen) == expected


def test_every_rule_is_evaluated_without_an_error(monitored: Monitored) -> None:
    """All of both files, by Prometheus itself."""
    eventually(lambda: all(rule["lastEvaluation"] != NEVER for rule in monitored.prometheus.rules()))
    evaluated = monitored.prometheus.rules()
    assert len(evaluated) == len(rules(RULES)) + len(rules(ALERTS))
    assert [(rule["name"], rule["lastError"]) for rule in evaluated if rule["health"] != "ok"] == []


def test_every_expression_names_existing_series(monitored: Monitored) -> None:
    """Rules, alerts and pages name existing series of the service, of a recording rule, or of Prometheus itself."""
    known = monitored.names() | recorded() | OF_PROMETHEUS
    missing = {
        (place, selector.name)
        for place, expression in expressions()
        for selector in selectors(expression)
        if selector.name not in known
    }
    assert missing == set()


def test_every_expression_is_answered(monitored: Monitored) -> None:
    """None is an error, those of pages among them."""
    for _, expression in expressions():
        monitored.prometheus.query(expression)


def test_every_recorded_series_has_a_value(monitored: Monitored) -> None:
    """Under traffic none is empty."""
    for name in recorded():
        eventually(lambda name=name: len(monitored.prometheus.query(name)) > 0)  # type: ignore[misc]


def test_series_of_alerts_exist(monitored: Monitored) -> None:
    """Each series that an alert looks at, but those of what is off here, is in Prometheus."""
    names = {selector.name or "" for rule in rules(ALERTS) for selector in selectors(rule["expr"])}
    eventually(lambda: {name for name in names if not monitored.prometheus.query(name)} <= NOT_HERE)


@pytest.mark.timeout(120)
def test_a_customer_near_its_quota_is_named(monitored: Monitored) -> None:
    """The traffic leaves one organization near its end, and not over it; the alert says its name."""
    near = re.compile(r"Globex has used 9[\d.]+% of its daily quota")
    eventually(lambda: any(near.match(told["summary"]) for told in monitored.firing("ExtauthzCustomerNearQuota")))


@pytest.mark.timeout(120)
def test_a_store_that_is_away_fires(monitored: Monitored) -> None:
    """Redis hangs: the alert fires, with words in all of its annotations; Redis answers again: it is over."""
    assert monitored.firing("ExtauthzStoreAway") == []
    with paused(monitored.stack.redis):
        eventually(lambda: len(monitored.firing("ExtauthzStoreAway")) == 1)
        (told,) = monitored.firing("ExtauthzStoreAway")
        assert told["summary"] == "redis is away from extauthz"
        assert told["description"].startswith("1 instance(s) of extauthz")
        assert told["runbook_url"].endswith("docs/howto/runbooks/store-away.md")
        eventually(lambda: len(monitored.firing("ExtauthzLimitsUncharged")) == 1)
    eventually(lambda: monitored.firing("ExtauthzStoreAway") == [])


@pytest.mark.timeout(120)
def test_a_database_that_is_away_fires(monitored: Monitored) -> None:
    """PostgreSQL hangs: it is away, and its messages of changes no longer arrive."""
    with paused(monitored.stack.postgres):
        eventually(lambda: [told["summary"] for told in monitored.firing("ExtauthzStoreAway")] == [POSTGRES_AWAY])
        eventually(lambda: len(monitored.firing("ExtauthzChangeFeedDown")) == 1)
    eventually(lambda: monitored.firing("ExtauthzStoreAway") + monitored.firing("ExtauthzChangeFeedDown") == [])


def workers(monitored: Monitored) -> list[int]:
    """The processes of the service's workers."""
    return family(monitored.stack.extauthz.pid)[1:]


@pytest.mark.timeout(120)
def test_workers_that_die_fire(monitored: Monitored) -> None:
    """Three are killed one after the other, and each is started again."""

    def restarts() -> float:
        return sum(each.value for each in monitored.prometheus.query("extauthz_worker_restarts_total"))

    for number in range(1, 4):
        os.kill(workers(monitored)[0], signal.SIGKILL)
        eventually(lambda number=number: restarts() >= number)  # type: ignore[misc]
    eventually(lambda: len(monitored.firing("ExtauthzWorkerRestarts")) == 1)
