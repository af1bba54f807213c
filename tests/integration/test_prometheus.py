"""A real Prometheus scrapes `/metrics`."""

from pathlib import Path

import pytest

from extauthz.demo.folders import ServerFailed
from tests.servers.process import listening, settings
from tests.servers.prometheus import Prometheus

RULES = """
groups:
  - name: example
    rules:
      - record: extauthz:example
        expr: sum(extauthz_decisions_total)
"""


async def test_prometheus_scrapes_the_private_listener(database: str, redis_url: str, tmp_path: Path) -> None:
    """It accepts every line, evaluates rules over them, and answers a range."""
    async with listening(settings(database, redis_url)) as service:
        await service.check()
        with Prometheus(tmp_path, await service.address("admin"), files={"rules.yml": RULES}) as prometheus:
            counted = (await prometheus.until("extauthz:example > 0"))[0]
            moment = counted.points[0][0]
            history = await prometheus.range("extauthz:example", start=moment - 1, end=moment, step=1)
            up = await prometheus.instant('up{job="extauthz"}')
            with pytest.raises(ServerFailed, match="parse error"):
                await prometheus.instant("sum(")
    assert counted.value == 1
    assert history[0].value == 1
    assert [series.value for series in up] == [1]
