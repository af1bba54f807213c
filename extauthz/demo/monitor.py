"""What `extauthz demo --monitor` runs and prints: the demo under continuous traffic, with Prometheus and our rules."""

import asyncio
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from extauthz.demo.customers import furnish
from extauthz.demo.embedded import ENV_FILE, write_env
from extauthz.demo.mix import Traffic
from extauthz.demo.ports import LOOPBACK, free_port
from extauthz.demo.prometheus import NEVER, Prometheus, installed, prometheus_files
from extauthz.demo.session import Session, session
from extauthz.demo.show import command
from extauthz.demo.stack import ADMIN, FORWARD_DOOR, Proxy, Stack

ROUTES = Path(__file__).with_name("monitor.toml")
SETTINGS = {"EXTAUTHZ_CONFIG": str(ROUTES), "EXTAUTHZ_WORKERS": "2", "EXTAUTHZ_TENANT_METRICS": "20"}
PROMETHEUS = 9090  # its usual port
INTERVAL = "1s"  # between two scrapes, and between two evaluations of the rules
SEEN_TIMEOUT_SECONDS = 90.0
DECISIONS = "sum by (decision) (extauthz_decisions_total) > 0"
RATES = "sum by (decision) (rate(extauthz_decisions_total[20s]))"
ALERTS = "ALERTS"


def monitor(*, once: bool) -> bool:
    """The whole of it; whether Prometheus has seen what it should. Nothing of it is left at the end."""
    program = installed()
    fine = True
    with session("extauthz-monitor-") as terminal, ExitStack() as running:
        stack = running.enter_context(Stack(terminal.folder, told=terminal.told, environ=SETTINGS))
        terminal.told("making customers")
        customers = asyncio.run(furnish(stack.settings))
        terminal.told("starting Prometheus")
        prometheus = running.enter_context(_prometheus(terminal.folder, stack, program))
        forward = Proxy("forward", stack.ports[FORWARD_DOOR])
        traffic = running.enter_context(Traffic(customers, stack.proxies, forward))
        terminal.everything_is_up()
        terminal.told("waiting until Prometheus has scraped, and evaluated the rules")
        fine = _eventually(lambda: _has_seen(prometheus, traffic))
        terminal.done()
        for line in _table(prometheus):
            terminal.print(line)
        if not fine:
            terminal.print(f"Prometheus has not seen everything within {SEEN_TIMEOUT_SECONDS:g} s", style="red")
        if not once:
            _stay(terminal, stack, prometheus)
        terminal.told("stopping everything")
    return fine


def _prometheus(folder: Path, stack: Stack, program: Path) -> Prometheus:
    port = free_port(PROMETHEUS)
    files = prometheus_files(f"{LOOPBACK}:{stack.ports[ADMIN]}", port=port, interval=INTERVAL)
    return Prometheus(folder / "prometheus", files, port=port, program=program)


def _has_seen(prometheus: Prometheus, traffic: Traffic) -> bool:
    """Whether each decision of the traffic is in Prometheus, and each rule was evaluated without an error."""
    decisions = {sample.labels["decision"] for sample in prometheus.query(RATES) if sample.value > 0}
    rules = prometheus.rules()
    return {kind.stop.decision for kind in traffic.kinds} <= decisions and all(
        rule["health"] == "ok" and rule["lastEvaluation"] != NEVER for rule in rules
    )


def _eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SEEN_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except OSError:  # it is busy, or has not loaded its rules yet
            pass
        time.sleep(0.2)
    return False


def _table(prometheus: Prometheus) -> list[str]:
    """What Prometheus has seen, in lines of at most 80 columns."""
    rates = {sample.labels["decision"]: sample.value for sample in prometheus.query(RATES)}
    counts = sorted(prometheus.query(DECISIONS), key=lambda sample: -sample.value)
    rows = [(each.labels["decision"], each.value, rates.get(each.labels["decision"], 0.0)) for each in counts]
    rules = prometheus.rules()
    failed = [rule["name"] for rule in rules if rule["health"] != "ok"]
    alerts = sorted({(each.labels["alertname"], each.labels["alertstate"]) for each in prometheus.query(ALERTS)})
    return [
        f"{'DECISION':<24}{'CHECKS':>8}{'PER SECOND':>12}",
        *(f"{decision:<24}{count:>8.0f}{rate:>12.2f}" for decision, count, rate in rows),
        "",
        f"{len(rules)} rules, {len(failed)} with an error{': ' if failed else ''}{', '.join(failed)}",
        *(f"{name:<40}{state}" for name, state in alerts),
    ]


def _stay(terminal: Session, stack: Stack, prometheus: Prometheus) -> None:
    file = stack.folder / ENV_FILE
    write_env(file, stack.environ)
    redis = stack.redis.pid
    lines = [
        "",
        "Traffic goes on. Look at",
        f"  Prometheus  {prometheus.url}/graph",
        f"  alerts      {prometheus.url}/alerts",
        f"  metrics     http://{LOOPBACK}:{stack.ports[ADMIN]}/metrics",
        "  dashboards  compose/grafana/dashboards, in a Grafana whose data source is",
        f"              {prometheus.url}",
        "",
        "Let an alert fire, from another shell: Redis hangs, and a minute later it is",
        "ExtauthzStoreAway (docs/howto/runbooks/store-away.md).",
        "",
        f"kill -STOP {redis}",
        f"kill -CONT {redis}   # Redis answers again",
        "",
        "Commands work there, too, the last one until Ctrl-C:",
        "",
        f". {shlex.quote(str(file))}",
        f"{command()} usage Globex",
        f"{command()} rejections Initech",
        f"{command()} tail --decision denials",
        "",
        "Ctrl-C ends everything.",
    ]
    for line in lines:
        terminal.print(line)
    signal.pause()
