"""Writes what was measured as Markdown. Pure: figures in, text out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench.rows import MEMORY_LIMIT_BYTES, ROWS
from tests.bench.targets import OURS, Sample, judge, medians, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.targets import Metrics, Target, Verdict

_BUSY_LOAD: Final = 0.5
"""A load average above this, before anything was started, is somebody else's work."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what the samples were taken."""

    date: str
    rounds: int
    quick: bool
    load_average: float
    """When the run began."""
    machine: dict[str, str]
    versions: dict[str, str]
    links: dict[str, tuple[float, float]]
    """What each link was measured to be: ms before the first byte, and bytes/s."""
    left_out: dict[str, str]
    """What could not be measured, and why."""


def write_report(samples: Sequence[Sample], conditions: Conditions, plot: str) -> str:
    """Return the whole document; `plot` is the name of the picture beside it."""
    parts = [
        "# Benchmarks",
        "",
        "Written by `make bench`; what it does and how to repeat it is told in "
        "[performance.md](performance.md). Times are medians of wall time over "
        f"{_counted(conditions.rounds, 'round')}, caches empty unless the row says otherwise; "
        "whoever no target names was measured in one round only, but for *plain file* and *pyfuse3 "
        "alone*, which tell what can be reached. Every byte that was read was compared with what "
        "the store holds.",
        "",
        *_conditions(conditions),
        "",
        "## Targets",
        "",
        *target_table(samples),
        "",
        f"![How many times as long as idcfs the others take]({plot})",
        "",
        "## Figures",
        "",
        "*range* is the shortest and the longest round; *CPU* is user and system time, of a "
        "mount's daemon from its start or of the command; *wire* is what nginx sent, heads of "
        "answers included, until the mount was gone; *memory* is the most that the daemon, or the "
        "largest process of the command, ever had resident.",
        "",
        *figure_table(samples),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _conditions(conditions: Conditions) -> list[str]:
    links = "; ".join(
        f"{name}: {delay_ms:.1f} ms to the first byte, {rate / 1e6:,.0f} MB/s on one connection"
        for name, (delay_ms, rate) in conditions.links.items()
    )
    busy = conditions.load_average > _BUSY_LOAD
    lines = [
        f"- {conditions.date}; load average at the start {conditions.load_average:.2f}"
        + (" (**others were using the machine: not to be relied on**)" if busy else ""),
        "- " + ", ".join(f"{name} {value}" for name, value in conditions.machine.items()),
        "- " + ", ".join(f"{name} {value}" for name, value in conditions.versions.items()),
        f"- links as measured: {links}",
        "- missing: mountpoint-s3, which neither PyPI nor Debian has",
    ]
    if conditions.quick:
        lines.append("- a quick run: fewer files, one round")
    lines += [f"- left out: {what}: {why}" for what, why in conditions.left_out.items()]
    return lines


def target_table(samples: Sequence[Sample]) -> list[str]:
    """Return the table of targets, for the rows that were measured."""
    found = medians(samples)
    lines = ["| workload | target | reached | |", "|---|---|---|---|"]
    for row in ROWS:
        for target in row.targets if row.name in found else ():
            verdict = judge(target, found[row.name])
            lines.append(f"| {row.label} | {_asked(target)} | {_reached(target, verdict)} |")
    if (most := worst(samples, OURS, "daemon_bytes")) is not None:
        lines.append(
            "| the daemon's memory through every workload above | at most "
            f"{_absolute('daemon_bytes', MEMORY_LIMIT_BYTES)} | {_absolute('daemon_bytes', most)} "
            f"| {_word(most <= MEMORY_LIMIT_BYTES)} |"
        )
    return lines


def _asked(target: Target) -> str:
    of = {"cpu_s": ", CPU", "random_seconds": ", random"}.get(target.metric, "")
    whose = "" if target.ours == OURS else f" (`{target.ours.removeprefix('idcfs ')}`)"
    if target.kind == "faster":
        return f"{target.limit:g}× {target.peer}{of}{whose}"
    if target.kind == "within":
        return f"within {target.limit:g}× of {target.peer}{of}{whose}"
    return f"at most {_absolute(target.metric, target.limit)}"


def _reached(target: Target, verdict: Verdict | None) -> str:
    if verdict is None:
        return "not measured | "
    value = verdict.reached
    told = _absolute(target.metric, value) if target.kind == "below" else f"{_digits(value)}×"
    return f"{told} | {_word(verdict.met)}"


def _word(met: bool) -> str:
    return "met" if met else "**missed**"


def _absolute(metric: str, value: float) -> str:
    """Write a figure with its unit, which the metric's name tells."""
    if metric == "wire_ratio":
        return f"{_digits(value)}× the bytes asked for"
    if metric == "latency_delays":
        return f"{_digits(value)} link delays (median latency)"
    if metric.endswith("_bytes"):
        return f"{value / 1e6:.0f} MB"
    return f"{_digits(value)} s" + (" (first ever)" if metric == "first_ever_seconds" else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")


def _digits(value: float) -> str:
    """Write a number with as many places as count."""
    places = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{places}f}"


def figure_table(samples: Sequence[Sample]) -> list[str]:
    """Return the table of medians, a line for each contestant of each row."""
    found = medians(samples)
    ranges = _ranges(samples)
    columns = ("time", "range", "CPU", "wire", "requests", "memory", "besides")
    lines = [
        f"| workload | contestant | {' | '.join(columns)} |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in ROWS:
        title = row.label
        for contestant in row.contestants:
            if (metrics := found.get(row.name, {}).get(contestant)) is None:
                continue
            cells = [title, contestant, *_figures(metrics, ranges[row.name, contestant])]
            lines.append(f"| {' | '.join(cells)} |")
            title = ""
    return lines


def _ranges(samples: Iterable[Sample]) -> dict[tuple[str, str], str]:
    """Return the shortest and the longest time of each contestant in each row."""
    times: dict[tuple[str, str], list[float]] = {}
    for sample in samples:
        times.setdefault((sample.row, sample.contestant), []).append(sample.metrics["seconds"])
    return {key: f"{_digits(min(took))} to {_digits(max(took))}" for key, took in times.items()}


def _figures(metrics: Metrics, between: str) -> list[str]:
    """Return the cells of one line, empty where nothing was measured."""
    cpu = metrics.get("cpu_s", metrics.get("daemon_cpu_s"))
    memory = metrics.get("process_bytes", metrics.get("daemon_bytes"))
    wire, requests = metrics.get("wire_bytes"), metrics.get("wire_requests")
    return [
        f"{_digits(metrics['seconds'])} s",
        between,
        "" if cpu is None else f"{_digits(cpu)} s",
        "" if wire is None else f"{_digits(wire / 1e6)} MB",
        "" if requests is None else f"{requests:,.0f}",
        "" if memory is None else f"{memory / 1e6:.0f} MB",
        _besides(metrics),
    ]


def _besides(metrics: Metrics) -> str:
    """Tell what only some rows have."""
    told = []
    if "bytes" in metrics:
        told.append(f"{metrics['bytes'] / metrics['seconds'] / 1e6:,.0f} MB/s")
    if "wire_ratio" in metrics:
        told.append(f"{_digits(metrics['wire_ratio'])}× the bytes")
    if "latency_s" in metrics:
        told.append(f"median latency {metrics['latency_s'] * 1000:.0f} ms")
    if "random_seconds" in metrics:
        told.append(f"random: {metrics['random_reads'] / metrics['random_seconds']:,.0f} reads/s")
    if "first_ever_seconds" in metrics:
        told.append(f"first ever: {_digits(metrics['first_ever_seconds'])} s")
    if "directories" in metrics:
        told.append(f"{metrics['directories']:,.0f} directories")
    told += [
        f"`{name.removesuffix(' seconds')}` {value:.2f} s"
        for name, value in metrics.items()
        if name.endswith(" seconds")
    ]
    return ", ".join(told)
