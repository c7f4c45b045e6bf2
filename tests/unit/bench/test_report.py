"""What the report says of the figures it is given."""

from __future__ import annotations

from tests.bench.report import Conditions, figure_table, target_table, write_report
from tests.bench.targets import OURS, Sample

SAMPLES = [
    Sample("cp", OURS, 0, {"seconds": 1.0, "daemon_bytes": 80e6, "wire_bytes": 106e6}),
    Sample("cp", OURS, 1, {"seconds": 0.5, "daemon_bytes": 90e6, "wire_bytes": 106e6}),
    Sample("cp", "rclone", 0, {"seconds": 12.0, "daemon_cpu_s": 1.25, "wire_requests": 1405}),
    Sample("heads", OURS, 0, {"seconds": 2.0, "wire_ratio": 2.5}),
]


def conditions(load_average: float = 0.1) -> Conditions:
    return Conditions(
        date="2026-01-02 03:04 UTC",
        rounds=2,
        quick=False,
        load_average=load_average,
        machine={"processors": "2 × test"},
        versions={"rclone": "1.2.3"},
        links={"link": (30.4, 81e6)},
        left_out={"cp, s3fs": "it is not installed"},
    )


def line_of(lines: list[str], *parts: str) -> str:
    (found,) = [line for line in lines if all(part in line for part in parts)]
    return found


def test_targets_are_held_against_the_medians() -> None:
    lines = target_table(SAMPLES)
    assert line_of(lines, "`cp -r`", "12× rclone").endswith("| 16.0× | met |")
    assert line_of(lines, "`cp -r`", "s5cmd").endswith("| not measured |  |")
    assert line_of(lines, "64 KiB", "at most").endswith("| 2.50× the bytes asked for | met |")
    assert line_of(lines, "memory").endswith("| at most 300 MB | 90 MB | met |")


def test_a_missed_target_stands_out() -> None:
    slow = [Sample("commands", OURS, 0, {"seconds": 0.8, "--help seconds": 0.8})]
    assert line_of(target_table(slow), "commands").endswith(
        "at most 0.30 s | 0.80 s | **missed** |"
    )


def test_figures_have_a_line_for_each_contestant() -> None:
    lines = figure_table(SAMPLES)
    line_of(lines, "| idcfs | 0.75 s | 0.50 to 1.00 |", "| 106 MB |", "| 85 MB |")
    line_of(lines, "|  | rclone | 12.0 s | 12.0 to 12.0 | 1.25 s |", "| 1,405 |")
    assert {line.count("|") for line in lines} == {10}


def test_the_document_tells_its_conditions() -> None:
    text = write_report(SAMPLES, conditions(), plot="figure.svg")
    for part in ("2026-01-02", "0.10", "30.4 ms", "81 MB/s", "rclone 1.2.3", "(figure.svg)"):
        assert part in text
    assert "left out: cp, s3fs: it is not installed" in text
    assert "not to be relied on" not in text


def test_a_busy_machine_is_told() -> None:
    assert "not to be relied on" in write_report(SAMPLES, conditions(3.2), plot="figure.svg")
