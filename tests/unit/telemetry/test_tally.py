"""The fast path counts the same as checks that are counted one by one."""

from itertools import cycle, islice

import pytest

from extauthz.core.reason import Reason
from extauthz.telemetry import tally as module
from extauthz.telemetry.checks import DURATION_BUCKETS, STAGES, CheckCounts
from tests.unit.telemetry.reading import read

DURATION, STAGE = "extauthz_decision_duration_seconds", "extauthz_stage_duration_seconds"
# Each bound, and what is right below, above and beyond all of them.
TIMES = [0.0, *(bound * share for bound in DURATION_BUCKETS for share in (0.999, 1.0, 1.001)), 9.0]


@pytest.mark.parametrize("count", [1, 31, module.WAITING_MAX - 1, module.WAITING_MAX, 3 * module.WAITING_MAX + 7])
def test_times_fall_into_the_buckets_of_their_bounds(count: int) -> None:
    """With any number of waits a bucket has the times up to its bound, inclusive, and their sum."""
    times = list(islice(cycle(TIMES), count))
    counts = CheckCounts(["envoy"])
    tally = counts.tally("envoy")
    for seconds in times:
        tally.limited(seconds, seconds / 2, 3)
    found = read(counts)
    for bound in DURATION_BUCKETS:
        within = sum(each <= bound for each in times), sum(each / 2 <= bound for each in times)
        assert found[f"{DURATION}_bucket", "envoy", str(bound)] == within[0]
        assert [found[f"{STAGE}_bucket", str(bound), stage] for stage in STAGES] == [within[1]] * 2
    assert found[f"{DURATION}_count", "envoy"] == count
    assert found[f"{DURATION}_sum", "envoy"] == pytest.approx(sum(times))
    assert found["token_bucket_consumed_total",] == 3 * count


def test_nothing_is_counted_twice() -> None:
    """A second read has the same counts, and later checks are added, for every kind of check."""
    counts = CheckCounts(["envoy"])
    tally = counts.tally("envoy")
    for expected in (1, 2):
        tally.limited(0.001, 0.0005, 1)
        tally.refused(Reason.RATE_LIMITED, 0.001, 0.0005)
        tally.decided(Reason.NO_CREDENTIALS, 0.001)
        for _ in range(2):
            found = read(counts)
            for reason in (Reason.ALLOW, Reason.RATE_LIMITED, Reason.NO_CREDENTIALS):
                assert found["extauthz_decisions_total", reason.value, "envoy"] == expected
            assert found[f"{DURATION}_count", "envoy"] == 3 * expected
            assert [found[f"{STAGE}_count", stage] for stage in STAGES] == [2 * expected] * 2
