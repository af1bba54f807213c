"""The floor of `make coverage`: each room for itself."""

import pytest

from tests.branches import main


def summary(run: int, there: int) -> dict[str, dict[str, int]]:
    return {"summary": {"covered_branches": run, "num_branches": there}}


def test_one_room_below_the_floor_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """However many branches of the other room are run; a report of nothing fails, too."""
    for run, status in ((19, 0), (18, 1)):
        files = {"extauthz/core/a.py": summary(run, 20), "extauthz/service/b/c.py": summary(99, 99)}
        assert main({"files": files}) == status
        told = [f"extauthz/core: {5 * run}.0 % of branches", "extauthz/service: 100.0 % of branches"]
        assert capsys.readouterr().out.splitlines() == told
    assert main({"files": {}}) == 1
