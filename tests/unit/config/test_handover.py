"""Settings that a supervisor hands to its workers."""

import json
from pathlib import Path

from extauthz.config import load
from extauthz.config.handover import from_record, to_record

PEPPER = "pepper of these tests: 5b1c9e7f2a"
ENVIRON = {
    "DATABASE_URL": "postgresql://app:s3same@db.example.com/extauthz",
    "RATE_LIMIT_ON_REDIS_DOWN": "closed",
    "EXTAUTHZ_KEY_PEPPER": f"new:{PEPPER},old:{PEPPER[::-1]}",
    "EXTAUTHZ_ADMIN_TOKEN": "ops:token-of-these-tests-77c0f1a92b4e",
    "EXTAUTHZ_WEBHOOK_URL": "https://hooks.example.com/quota",
    "EXTAUTHZ_WEBHOOK_SECRET": "s3cret of these tests: 0f9c81d57ab2",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example.com",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20eHg6eXk=",
}
FILE = """
[settings]
redis_url = "rediss://app:pass@redis.example.com:6380/1"
workers = 4
decision_log = "0.01"
envoy_listen = "[::1]:9001"
forward_listen = "unix:/run/extauthz/forward.sock"

[[routes]]
path = "/public/**"
public = true
rate = "60/min"
burst = 5

[[routes]]
path = "/api/{resource}/**"
host = "api.example.com"
methods = ["GET", "POST"]
cost = 3
limits = "shadow"

[resources]
customers = "customer"

[keys]
lookup_sql = "SELECT id FROM keys WHERE hash = %(sha256)s"
"""


def test_a_worker_has_the_settings_of_its_supervisor(tmp_path: Path) -> None:
    """Every value, route and place survives the transfer as JSON, secrets included."""
    file = tmp_path / "extauthz.toml"
    file.write_text(FILE)
    settings = load(ENVIRON, file)
    handed = from_record(json.loads(json.dumps(to_record(settings))))
    assert handed.effective() == settings.effective()
    assert handed.routes.routes == settings.routes.routes
    assert handed.routes.resources.segments == settings.routes.resources.segments
    fields = set(type(settings).model_fields) - {"routes"}
    assert {name: getattr(handed, name) for name in fields} == {name: getattr(settings, name) for name in fields}


def test_texts_are_never_shown(tmp_path: Path) -> None:
    """Texts of settings, secrets among them, are in no repr and in no dump."""
    file = tmp_path / "extauthz.toml"
    file.write_text(FILE)
    settings = load(ENVIRON, file)
    for text in (repr(settings), str(settings), str(settings.model_dump(include={"texts", "sources"}))):
        assert "s3same" not in text
        assert PEPPER not in text
