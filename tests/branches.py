"""`make coverage`: prints which part of the branches of core/ and service/ tests run; ends with 1 below the floor."""

import json
import sys
from collections import Counter
from typing import Any

FLOOR = 95.0  # percent, in each room


def shares(files: dict[str, Any]) -> dict[str, float]:
    """Percent of the branches of each room that are run, by the `files` of a JSON report of coverage."""
    there, run = Counter[str](), Counter[str]()
    for name, report in files.items():
        room = "/".join(name.split("/")[:2])
        there[room] += report["summary"]["num_branches"]
        run[room] += report["summary"]["covered_branches"]
    return {room: 100 * run[room] / count for room, count in sorted(there.items()) if count}


def main(report: dict[str, Any]) -> int:
    """Prints the share of each room; 1 where there is none, or one is below the floor."""
    found = shares(report["files"])
    sys.stdout.writelines(f"{room}: {share:.1f} % of branches\n" for room, share in found.items())
    return int(not found or min(found.values()) < FLOOR)


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
