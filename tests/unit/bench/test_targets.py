"""Medians and verdicts."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.plot import times_as_long
from tests.bench.rows import ROWS
from tests.bench.targets import OURS, Sample, Target, Verdict, judge, medians, worst


def sample(seconds: float, contestant: str = OURS, number: int = 0, **metrics: float) -> Sample:
    return Sample("cp", contestant, number, {"seconds": seconds, **metrics})


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=9))
def test_the_median_of_the_rounds_counts(times: list[float]) -> None:
    found = medians(sample(took, number=number) for number, took in enumerate(times))
    assert found == {"cp": {OURS: {"seconds": statistics.median(times)}}}


@pytest.mark.parametrize(
    ("target", "reached", "met"),
    [
        (Target("faster", 12, "rclone"), 10.0, False),
        (Target("faster", 10, "rclone"), 10.0, True),
        (Target("within", 1.3, "s5cmd"), 2.0, False),
        (Target("within", 2, "s5cmd"), 2.0, True),
        (Target("within", 1, "s5cmd", metric="cpu_s"), 0.5, True),
        (Target("below", 1), 1.0, True),
        (Target("below", 0.3), 1.0, False),
    ],
)
def test_a_target_is_met_or_not(target: Target, reached: float, met: bool) -> None:
    found = medians([sample(1, cpu_s=1), sample(10, "rclone"), sample(0.5, "s5cmd", cpu_s=2)])
    assert judge(target, found["cp"]) == Verdict(reached, met)


def test_what_was_not_measured_has_no_verdict() -> None:
    found = medians([sample(1)])
    assert judge(Target("faster", 12, "rclone"), found["cp"]) is None
    assert judge(Target("below", 3, metric="wire_ratio"), found["cp"]) is None


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_faster_and_within_are_each_others_inverse(ours: float, theirs: float) -> None:
    row = medians([sample(ours), sample(theirs, "s5cmd")])["cp"]
    faster, within = (
        judge(Target("faster", 1, "s5cmd"), row),
        judge(Target("within", 1, "s5cmd"), row),
    )
    assert faster is not None
    assert within is not None
    assert faster.reached == pytest.approx(1 / within.reached)
    assert faster.met == within.met == (ours <= theirs)


def test_the_largest_memory_of_all_rows_counts() -> None:
    samples = [sample(1, daemon_bytes=5), Sample("ls", OURS, 0, {"daemon_bytes": 7})]
    assert worst(samples, OURS, "daemon_bytes") == 7
    assert worst(samples, "rclone", "daemon_bytes") is None


def test_every_target_is_about_contestants_of_its_row() -> None:
    for row in ROWS:
        for target in row.targets:
            assert target.ours in row.contestants
            assert (target.peer in row.contestants) is (target.kind != "below")
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_who_is_only_there_for_the_picture_is_measured_once() -> None:
    row = next(row for row in ROWS if row.name == "cp")
    assert {name: row.rounds_of(name) > 1 for name in row.contestants} == {
        "idcfs": True,
        "rclone": True,
        "rclone 16×4M": False,
        "s3fs": False,
        "s5cmd": True,
    }


def test_what_tells_the_limit_is_measured_in_each_round() -> None:
    row = next(row for row in ROWS if row.name == "cached")
    assert {name for name in row.contestants if row.rounds_of(name) > 1} == {
        "idcfs",
        "rclone",
        "plain file",
        "pyfuse3 alone",
    }
    assert all(set(row.limits) <= set(row.contestants) for row in ROWS)


def test_the_plot_compares_with_idcfs_alone() -> None:
    samples = [sample(2), sample(1, "idcfs --verify length"), sample(8, "rclone")]
    assert times_as_long(samples) == {"cp": {"rclone": 4.0}}
