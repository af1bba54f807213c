"""Writes the bill of materials of this Python environment to standard output: CycloneDX 1.6, in JSON."""

import json
import re
import sys
from importlib.metadata import Distribution, distributions


def component(package: Distribution) -> dict[str, object]:
    """One installed package, as CycloneDX describes it."""
    name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
    described: dict[str, object] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{package.version}",
        "name": name,
        "version": package.version,
        "purl": f"pkg:pypi/{name}@{package.version}",
    }
    if expressions := package.metadata.get_all("License-Expression"):
        described["licenses"] = [{"expression": each} for each in expressions]
    return described


def bill() -> dict[str, object]:
    """The bill of the environment that runs this; extauthz is what it is about."""
    components = sorted(map(component, distributions()), key=lambda each: str(each["name"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": next(each for each in components if each["name"] == "extauthz")},
        "components": [each for each in components if each["name"] != "extauthz"],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
