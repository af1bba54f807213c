"""Figures of the database about keys, webhooks and the audit log."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from extauthz.backends.postgres.events import LATEST_DAYS
from extauthz.backends.postgres.figures import PostgresFigures
from tests.servers.management_client import ManagementClient
from tests.servers.serving import PATIENT, serving

EXPIRING = 'extauthz_keys_expiring{within="7d"}'


@pytest.fixture
def figures(operator: ManagementClient) -> PostgresFigures:
    return PostgresFigures(operator.pool, webhook=True)


async def test_keys_that_end_soon(operator: ManagementClient, figures: PostgresFigures) -> None:
    """Keys that end within 7 days are within 30, too; revoked, disabled or expired keys are not counted."""
    now = datetime.now(UTC)
    for days in (1, 6.9, 8, 29, 31):
        await operator.new_key("acme", expires_at=now + timedelta(days=days))
    for column in ("revoked_at", "disabled_at"):
        key, _ = await operator.new_key("acme", expires_at=now + timedelta(days=1))
        await operator.sql(f"UPDATE api_keys SET {column} = now() WHERE id = %s", key.id)
    over, _ = await operator.new_key("acme", expires_at=now + timedelta(days=1))
    await operator.sql("UPDATE api_keys SET expires_at = now() WHERE id = %s", over.id)
    await operator.new_key("acme")
    found = await figures.read(())
    assert (found.expiring_7d, found.expiring_30d, sum(found.by_pepper.values())) == (2, 4, 6)


async def test_keys_by_pepper(operator: ManagementClient, figures: PostgresFigures) -> None:
    """Keys of each pepper in the table, also of peppers that the settings do not have."""
    keys = [(await operator.new_key("acme"))[0] for _ in range(3)]
    await operator.sql("UPDATE api_keys SET pepper_id = 'gone' WHERE id = %s", keys[0].id)
    (signs,) = (await figures.read(())).by_pepper.keys() - {"gone"}
    assert (await figures.read(())).by_pepper == {signs: 2, "gone": 1}


async def test_events_that_wait(operator: ManagementClient, figures: PostgresFigures) -> None:
    """Undelivered ones, but not those that are too old to be tried, or given up; none without a webhook."""
    acme = (await operator.tenants.create_organization("acme")).id
    assert (await figures.read(())).backlog == (await figures.read(())).oldest_seconds == 0
    rows: Sequence[tuple[float, str]] = (
        (30, "NULL, NULL, NULL"),
        (600, "NULL, now(), NULL"),  # tried once, which does not age
        (LATEST_DAYS * 86400 + 60, "NULL, now(), NULL"),
        (LATEST_DAYS * 86400 + 60, "NULL, NULL, NULL"),
        (60, "now(), NULL, NULL"),
        (60, "NULL, NULL, now()"),
    )
    for number, (age, state) in enumerate(rows):
        await operator.sql(
            'INSERT INTO quota_events (organization_id, quota, window_start, threshold, used, "limit", at,'
            " delivered_at, next_attempt_at, failed_at) VALUES"
            f" (%s, 'daily', date '2026-01-01' + %s::int, 80, 8, 10, now() - make_interval(secs => %s), {state})",
            acme,
            number,
            age,
        )
    found = await figures.read(())
    assert found.backlog == 3
    assert found.oldest_seconds == pytest.approx(LATEST_DAYS * 86400 + 60, abs=50)
    unheard = await PostgresFigures(operator.pool, webhook=False).read(())
    assert (unheard.backlog, unheard.oldest_seconds) == (None, None)


async def test_rows_of_the_audit_log(operator: ManagementClient, figures: PostgresFigures) -> None:
    """Their number goes up with every change."""
    before = (await figures.read(())).audit_rows
    await operator.tenants.create_organization("acme")
    assert (await figures.read(())).audit_rows == before + 1


async def test_names_of_organizations(operator: ManagementClient, figures: PostgresFigures) -> None:
    """Names of the organizations that are asked for; an id that is unknown or malformed has none."""
    odd = await operator.tenants.create_organization('"odd" \\ ü')
    plain = await operator.tenants.create_organization("plain")
    await operator.tenants.create_organization("another")
    found = await figures.read([odd.id, plain.id, "other", "no id", "00000000-0000-0000-0000-000000000000"])
    assert found.names == {odd.id: '"odd" \\ ü', plain.id: "plain"}


async def test_the_service_reads_figures(
    operator: ManagementClient, figures: PostgresFigures, database: str, redis_url: str
) -> None:
    """The service reads figures in the background, from the start on."""
    await operator.new_key("acme", expires_at=datetime.now(UTC) + timedelta(days=1))
    async with serving(database, redis_url, **PATIENT) as service:
        metrics = await service.scraped_until(lambda found: EXPIRING in found)
    assert (metrics[EXPIRING], metrics['extauthz_keys_expiring{within="30d"}']) == (1, 1)
    assert metrics["extauthz_audit_rows_total"] == (await figures.read(())).audit_rows
    assert sum(count for name, count in metrics.items() if name.startswith("extauthz_pepper_keys{")) == 1
    assert metrics['extauthz_pepper_keys{pepper="unknown"}'] == 0
    assert "extauthz_webhook_backlog" not in metrics
