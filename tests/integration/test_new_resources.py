"""A resource that is added to the routes later, and the permissions of earlier keys."""

from pathlib import Path

from extauthz.core.permissions import FULL_ACCESS
from tests.servers.management_client import ManagementClient
from tests.servers.raw_http import ask
from tests.servers.serving import PATIENT, question, serving

BEFORE = '[[routes]]\npath = "/customers/**"\nresource = "customer"\n'
AFTER = BEFORE + '[[routes]]\npath = "/reports/**"\nresource = "report"\n'


async def test_a_resource_added_later(
    database: str, redis_url: str, operator: ManagementClient, tmp_path: Path
) -> None:
    """It is denied to restricted keys, by its name, and allowed to those with every permission."""
    _, everything = await operator.new_key("acme", permissions=FULL_ACCESS)
    _, restricted = await operator.new_key("acme", permissions={"customer": frozenset({"read"})})
    file = tmp_path / "extauthz.toml"
    found = []
    for routes in (BEFORE, AFTER):
        file.write_text(routes)
        async with serving(database, redis_url, **PATIENT, EXTAUTHZ_CONFIG=str(file)) as service:
            for key in (everything, restricted):
                answer = await ask(service.ports["envoy"], question("envoy", "/reports/7", key=key))
                found.append((answer.decision, answer["x-extauthz-code"]))
    unknown = ("route_not_allowed", "route_not_allowed")
    assert found == [
        *(unknown, unknown),
        ("allow", ""),
        ("permission_denied", "read_action_not_allowed_for_report"),
    ]
