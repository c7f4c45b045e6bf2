"""Time and memory of large selections, ours and idc-index's: `python -m tests.bench.selections`.

Each question is put to a fresh process, several times, and both must give the same answer;
the table on standard output has medians. Needs no store and no network. The environment of
idc-index is `.venv-reference`, or the one whose Python `IDCFS_REFERENCE_PYTHON` names.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).parents[2]
REFERENCE = Path(__file__).with_name("reference_selections.py")
ROUNDS = 3
IDENTIFIERS = 10_000
MIB = 1 << 20


@dataclass(frozen=True)
class Question:
    """What both are asked."""

    words: str
    ours: Sequence[str | Path]
    """A command; with `-` in it, `path` is its standard input."""
    theirs: str
    """The first argument of `reference_selections.py`."""
    path: Path
    """A file that idc-index is given."""


@dataclass(frozen=True)
class Cost:
    """What one answer took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    said: str
    """What came on standard output."""


def run(command: Sequence[str | Path], stdin: Path | None) -> Cost:
    """Run a command to its end. Raises CalledProcessError if it fails."""
    with open(stdin or os.devnull) as source, tempfile.TemporaryFile() as output:  # noqa: PTH123
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=source, stdout=output, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        said = output.read().decode()
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, said)


def idcfs(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "idcfs", *arguments]


def count_lines(path: Path) -> int:
    with path.open() as file:
        return sum(1 for _ in file)


def questions(directory: Path) -> list[Question]:
    """Write the files that the questions need, and return them."""
    manifest, uuids = directory / "nlst.txt", directory / "uuids.txt"
    run(idcfs("manifest", "--collection-id", "nlst", "--s5cmd", "--output", manifest), None)
    # Line by line: what this process holds counts for every process that it starts.
    count = count_lines(manifest)
    chosen = set(random.Random(1).sample(range(count), IDENTIFIERS))
    with manifest.open() as lines, uuids.open("w") as file:
        file.writelines(line.split("/")[3] + "\n" for at, line in enumerate(lines) if at in chosen)
    series = f"{count:,} series"
    start = [sys.executable, "-c", "import idcfs; idcfs.Index().columns"]
    given = idcfs("size", "--json", "-")
    return [
        Question("starting", start, "start", uuids),
        Question(
            "size of `nlst`", idcfs("size", "--json", "--collection-id", "nlst"), "size", uuids
        ),
        Question(
            f"write a manifest of {series}",
            idcfs("manifest", "--collection-id", "nlst", "--s5cmd", "--output", directory / "out"),
            "write",
            uuids,
        ),
        Question(
            f"read a manifest of {series}", idcfs("size", "--json", manifest), "read", manifest
        ),
        Question(f"size of {IDENTIFIERS:,} UUIDs given", given, "identifiers", uuids),
    ]


def check_same(question: Question, directory: Path, ours: str, theirs: str) -> None:
    """Raise AssertionError unless both answered alike: megabytes, or lines of a manifest."""
    if question.theirs == "start":
        return
    if question.theirs == "write":
        figure = count_lines(directory / "out")
        told = int(theirs.splitlines()[1])
    else:
        figure, told = round(json.loads(ours)["bytes"] / 1e6), int(theirs.splitlines()[0])
    assert abs(figure - told) <= 1, f"{question.words}: {figure:,} here and {told:,} there"


def told(costs: Sequence[Cost]) -> str:
    wall_s = statistics.median(cost.wall_s for cost in costs)
    cpu_s = statistics.median(cost.cpu_s for cost in costs)
    peak_bytes = statistics.median(cost.peak_bytes for cost in costs)
    return f"{wall_s:.1f} s | {cpu_s:.1f} s | {peak_bytes / MIB:,.0f} MiB"


def main() -> None:
    default = REPOSITORY / ".venv-reference/bin/python"
    reference = os.environ.get("IDCFS_REFERENCE_PYTHON", str(default))
    write = sys.stdout.write
    write("| | idcfs: time | processor | memory | idc-index: time | processor | memory |\n")
    write("|---|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as name:
        for each in questions(Path(name)):
            stdin = each.path if "-" in each.ours else None
            ours, theirs = list[Cost](), list[Cost]()
            for _ in range(ROUNDS):
                ours.append(run(each.ours, stdin))
                theirs.append(run([reference, str(REFERENCE), each.theirs, each.path], None))
                check_same(each, Path(name), ours[-1].said, theirs[-1].said)
            write(f"| {each.words} | {told(ours)} | {told(theirs)} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
