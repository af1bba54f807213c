"""`compose/Dockerfile` and `.dockerignore`: files of the builder, and properties of the image."""

import re

from tests.servers import dockerfile
from tests.servers.dockerfile import PROJECT, PYPROJECT


def test_the_builder_gets_what_it_copies() -> None:
    """And no other files: no tests, no history, no secret of a developer."""
    build = dockerfile.stages()[0]
    sources = [word for each in build.all("COPY") for word in each.words[:-1]]
    given = {str(path) for path in dockerfile.context()}
    for source in sources:
        assert any(path == source or path.startswith(f"{source}/") for path in given), source
    stray = [path for path in given if not any(path == each or path.startswith(f"{each}/") for each in sources)]
    assert not stray
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], PROJECT["readme"], *PROJECT["license-files"]]
    assert all(any(need == each or need.startswith(f"{each}/") for each in sources) for need in needed)


def test_the_image_is_small_and_unprivileged() -> None:
    """A base that is pinned by digest, locked packages, a user with a number, one program that gets the signals."""
    build, image = dockerfile.stages()
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", image.base)
    assert build.base == image.base
    installs = [each.text for each in build.all("RUN") if " install " in each.text]
    assert ["--require-hashes" in each or "--no-deps" in each for each in installs] == [True, True]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.last("USER").text)
    assert image.last("ENTRYPOINT").words[0] in PROJECT["scripts"]
    assert image.last("CMD").words == ["serve"]
    assert image.last("STOPSIGNAL").text == "SIGTERM"
    assert "curl" not in image.last("HEALTHCHECK").text
    assert image.labels["org.opencontainers.image.version"] == PROJECT["version"]
    assert image.environment["EXTAUTHZ_COMMIT"] == image.labels["org.opencontainers.image.revision"] == ""
    assert image.labels["io.extauthz.sbom"] == "/opt/extauthz/sbom.cdx.json"
