"""What is to be reached, and whether it was: arithmetic over medians, nothing else."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Metrics = dict[str, float]
"""What one run of a workload gave. `seconds` is wall time; names carry their units."""

Medians = dict[str, dict[str, Metrics]]
"""By row, contestant and metric."""

OURS = "idcfs"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one workload by one contestant."""

    row: str
    contestant: str
    round: int
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Target:
    """One promise of the table that idcfs is held against.

    `faster`: the peer's figure over ours is `limit` or more. `within`: ours over the
    peer's is `limit` or less. `below`: ours is `limit` or less, in the metric's unit.
    """

    kind: Literal["faster", "within", "below"]
    limit: float
    peer: str = ""
    """Whose figure ours is held against; empty for `below`."""
    metric: str = "seconds"
    ours: str = OURS
    """Which of our contestants it is about."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target."""

    reached: float
    met: bool


def medians(samples: Iterable[Sample]) -> Medians:
    """Return the median of each metric over the rounds."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for sample in samples:
        for metric, value in sample.metrics.items():
            found.setdefault((sample.row, sample.contestant, metric), []).append(value)
    result: Medians = {}
    for (row, contestant, metric), values in found.items():
        middle = statistics.median(values)
        result.setdefault(row, {}).setdefault(contestant, {})[metric] = middle
    return result


def judge(target: Target, row: Mapping[str, Metrics]) -> Verdict | None:
    """Hold the medians of one row against a target; None when a side was not measured."""
    ours = row.get(target.ours, {}).get(target.metric)
    if target.kind == "below":
        return None if ours is None else Verdict(ours, ours <= target.limit)
    theirs = row.get(target.peer, {}).get(target.metric)
    if not ours or not theirs:
        return None
    if target.kind == "within":
        return Verdict(ours / theirs, ours / theirs <= target.limit)
    return Verdict(theirs / ours, theirs / ours >= target.limit)


def worst(samples: Iterable[Sample], contestant: str, metric: str) -> float | None:
    """Return the largest value of a metric in all rows, or None if none was measured."""
    found = [
        sample.metrics[metric]
        for sample in samples
        if sample.contestant == contestant and metric in sample.metrics
    ]
    return max(found, default=None)
