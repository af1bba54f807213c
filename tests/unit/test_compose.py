"""`compose/`: every reference resolves, no service has more rights than it needs, no secret is shown."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from extauthz.config import load
from tests.servers import compose, dockerfile
from tests.servers.compose import BASE, COMBINATIONS, FOLDER, OVERLAYS, ROOT, SECRETS, Service

PAGE = (FOLDER / "README.md").read_text("utf-8")
OURS = f"extauthz:{dockerfile.PROJECT['version']}"
NAMES = {
    *("extauthz", "postgres", "redis", "envoy", "nginx", "upstream"),
    *("prometheus", "grafana", "otel-collector", "jaeger"),
}
# The user is that of the image, which is not root.
UNPRIVILEGED = (OURS, "prom/prometheus", "grafana/grafana", "otel/opentelemetry-collector", "jaegertracing/jaeger")
# Where a service listens, beside what its settings say.
PORTS = {
    "postgres": {5432},
    "redis": {6379},
    "envoy": {10000, 9901},
    "nginx": {8080},
    "upstream": {8000},
    "prometheus": {9090},
    "grafana": {3000},
    "otel-collector": {4317, 4318},
    "jaeger": {4317, 16686},
}
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|PEPPER|_URL|_KEY")
_HOST_AND_PORT = re.compile(r"(?<![\w.-])([a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*):([0-9]{2,5})\b")
_ENVOY_ADDRESS = re.compile(r"address: ([\w.-]+), port_value: ([0-9]+)")
_CREDENTIAL = re.compile(r"://[^/\s:@$]*:[^/\s@$]+@")

every_combination = pytest.mark.parametrize("files", COMBINATIONS, ids="+".join)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the secrets of a first start."""
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run([FOLDER / "make-secrets.sh", folder], check=True)
    return folder


def ports(name: str, service: Service) -> set[int]:
    listens = [value for key, value in compose.environment(service).items() if key.endswith("_LISTEN")]
    own = {int(value.rpartition(":")[2]) for value in listens if value != "off"}
    of_overlays = {26379} if name.startswith("sentinel-") else {6379} if name.startswith("redis-") else set()
    return own | PORTS.get(name, of_overlays)


def adapted(text: str) -> str:
    """A file of a proxy as its service uses it."""
    return subprocess.run(
        ["sed", "-E", "-f", FOLDER / "addresses.sed"], input=text, capture_output=True, text=True, check=True
    ).stdout


def configuration(name: str, service: Service, secrets: Path) -> Iterator[str]:
    """All references of a service to others: its settings, its command, its secrets, and the files it mounts."""
    values = [*compose.environment(service).values(), *compose.words(service, "command")]
    yield from values
    yield from ((secrets / Path(value).name).read_text() for value in values if value.startswith(SECRETS + "/"))
    for mount in compose.mounts(service):
        files = mount.source.rglob("*") if mount.source.is_dir() else [mount.source]
        for file in files:
            if file.suffix in (".yaml", ".yml", ".conf", ".toml") and file.is_file():
                yield adapted(file.read_text("utf-8")) if name in ("envoy", "nginx") else file.read_text("utf-8")


def uncommented(text: str) -> str:
    return "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())


@every_combination
def test_the_files_are_valid_together(files: tuple[str, ...]) -> None:
    """By the Compose specification, and every service that the contract names is there; extra ones are in a profile."""
    services = compose.services(*files)
    assert services.keys() >= NAMES
    assert {name for name, service in services.items() if service.get("profiles")} == {"load"}
    assert services["load"]["profiles"] == ["load"]


@every_combination
def test_what_a_service_waits_for_is_there(files: tuple[str, ...]) -> None:
    """A service that others wait for has a health check; one that must end is never restarted."""
    services = compose.services(*files)
    inherited = {OURS: dockerfile.stages()[-1].last("HEALTHCHECK")}
    for service in services.values():
        for name, wanted in service.get("depends_on", {}).items():
            other = services[name]
            own = other.get("healthcheck", {})
            if wanted["condition"] == "service_healthy":
                assert own.get("test") or (not own and inherited[other["image"]])
            else:
                ends = wanted["condition"] == "service_completed_successfully"
                assert ends == (other["restart"] == "no")


@every_combination
def test_every_mount_is_there(files: tuple[str, ...]) -> None:
    """Files and folders are in the repository, the files of the proxies and the routes are those of the demo."""
    services = compose.services(*files)
    found = {mount.source for service in services.values() for mount in compose.mounts(service)}
    missing = [source for source in found if not source.exists()]
    assert not missing
    demo = {ROOT / "envoy" / "http.yaml", ROOT / "nginx", ROOT / "extauthz" / "demo" / "routes.toml"}
    assert found >= demo


@every_combination
def test_every_image_is_pinned(files: tuple[str, ...]) -> None:
    """To a full version; the project's image to the version of the project."""
    for service in compose.services(*files).values():
        name, _, tag = service["image"].partition(":")
        assert service["image"] == OURS if name == "extauthz" else re.match(r"v?\d+\.\d+(\.\d+)?(-|$)", tag)


@every_combination
def test_no_service_may_do_more_than_it_must(files: tuple[str, ...]) -> None:
    for service in compose.services(*files).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"cpus", "memory", "pids"} == service["deploy"]["resources"]["limits"].keys()
        assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & service.keys()
        assert service.get("user", "root") != "root" or service["image"].startswith(UNPRIVILEGED)
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", ()))


@every_combination
def test_names_and_ports_lead_to_a_service(files: tuple[str, ...], secrets: Path) -> None:
    """Every host and port in a setting, a secret or a mounted file is that of a reachable service."""
    services = compose.services(*files)
    seen: set[tuple[str, str]] = set()
    for name, service in services.items():
        for text in configuration(name, service, secrets):
            plain = uncommented(text)
            for host, port in _HOST_AND_PORT.findall(plain) + _ENVOY_ADDRESS.findall(plain):
                if host in ("localhost", "127.0.0.1", "0.0.0.0"):
                    continue
                assert host in services, f"{name}: {host}:{port}"
                assert int(port) in ports(host, services[host]), f"{name}: {host}:{port}"
                assert {*service["networks"]} & {*services[host]["networks"]}, f"{name} cannot reach {host}"
                seen.add((name, host))
    assert seen >= {
        *(("envoy", "extauthz"), ("envoy", "upstream"), ("nginx", "extauthz"), ("nginx", "upstream")),
        *(("extauthz", "postgres"), ("extauthz", "otel-collector"), ("otel-collector", "jaeger")),
        *(("prometheus", "extauthz"), ("grafana", "prometheus"), ("grafana", "postgres"), ("load", "envoy")),
    }


def test_no_proxy_is_left_on_loopback() -> None:
    """Every address of the shipped files has become one of a service, but that of Envoy's admin interface."""
    files = [ROOT / "envoy" / "http.yaml", *(ROOT / "nginx").glob("*.conf")]
    left = [
        line.strip()
        for file in files
        for line in adapted(file.read_text("utf-8")).splitlines()
        if "127.0.0.1" in line.partition("#")[0]
    ]
    assert left == ["address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }"]


@every_combination
def test_published_ports_are_listened_on(files: tuple[str, ...]) -> None:
    services = compose.services(*files)
    published: list[str] = []
    for name, service in services.items():
        for port in service.get("ports", ()):
            _, outside, inside = port.split(":")
            assert int(inside) in ports(name, service)
            published.append(outside)
            assert f"http://127.0.0.1:{outside}" in PAGE
    assert len(published) == len({*published})


def test_every_variable_is_documented() -> None:
    """In the table of the README, with its default; and each row of the table has an effect."""
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert table == compose.variables(BASE, *OVERLAYS)


def test_every_service_is_documented() -> None:
    described = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert {name for row in described for name in re.findall(r"`([a-z-]+)`", row)} == compose.services(BASE).keys()


@every_combination
def test_no_secret_is_in_clear(files: tuple[str, ...], secrets: Path) -> None:
    """Secrets are files that the first start makes; no file of the repository holds one."""
    made = {file.name for file in secrets.iterdir()}
    for service in compose.services(*files).values():
        for name, value in compose.environment(service).items():
            if _SECRET_NAME.search(name):
                assert name.endswith("_FILE")
                assert value.startswith(SECRETS + "/")
                assert Path(value).name in made
    for file in FOLDER.rglob("*"):
        if file.suffix in (".yaml", ".yml", ".conf", ".sed", ".sql"):
            assert not _CREDENTIAL.search(file.read_text("utf-8")), file


def test_secrets_are_made_once(secrets: Path) -> None:
    """Random and different, for their owner and group alone; a second start leaves them as they are."""
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    assert all(file.stat().st_mode & 0o777 == 0o640 for file in secrets.iterdir())
    words = [word for text in before.values() for word in set(re.findall(r"\b[0-9a-f]{64}\b", text))]
    assert len({*words}) == 9
    subprocess.run([FOLDER / "make-secrets.sh", secrets], check=True)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


@pytest.mark.parametrize("name", ["extauthz", "load", "migrate"])
def test_settings_of_services_are_valid(name: str, secrets: Path) -> None:
    """`serve` reads them without an error, and without a warning about a file."""
    service = compose.services(BASE)[name]
    found = {mount.target: mount.source for mount in compose.mounts(service)}
    environ = {
        key: str(found.get(value, secrets / Path(value).name if value.startswith(SECRETS) else value))
        for key, value in compose.environment(service).items()
    }
    needs = ["DATABASE_URL"] if name == "migrate" else None
    settings = load(environ, None, needs=needs, serves=name == "extauthz")
    assert not [note for note in settings.notes if "OTEL" not in note]
    assert all(settings.sources.get(key, "default") != "default" for key in environ if key.startswith("EXTAUTHZ_W"))


def test_the_collector_uses_what_it_defines() -> None:
    """Each part of a pipeline has its settings, and no settings are for nothing."""
    collector = yaml.safe_load((FOLDER / "otel-collector.yaml").read_text("utf-8"))
    pipelines = collector["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == collector[kind].keys()


def test_grafana_finds_what_it_is_provisioned_with(secrets: Path) -> None:
    """The folder of the dashboards is mounted at the provider's path, and the files of secrets are created."""
    targets = {mount.target: mount.source for mount in compose.mounts(compose.services(BASE)["grafana"])}
    texts = [file.read_text("utf-8") for file in targets["/etc/grafana/provisioning"].rglob("*.yaml")]
    providers = [provider for text in texts for provider in yaml.safe_load(text).get("providers", ())]
    assert [targets[provider["options"]["path"]] for provider in providers] == [FOLDER / "grafana" / "dashboards"]
    named = {name for text in texts for name in re.findall(r"\$__file\{/run/secrets/([^}]+)\}", text)}
    assert named
    assert named <= {file.name for file in secrets.iterdir()}
