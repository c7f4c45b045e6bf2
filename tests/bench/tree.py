"""The workloads about the tree and the commands: wide directories, starting, walking."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from tests.bench.bench import LIMIT_S, expect_equal
from tests.bench.choice import query
from tests.bench.mounts import detached
from tests.bench.processes import idcfs_command, run_well

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.bench import Bench
    from tests.bench.mounts import MountedTree
    from tests.bench.targets import Metrics

PAGES: Final = "one page after another"
"""The contestant that asks for each page of a listing when it has read the one before."""

_PAGES_PROGRAM: Final = """
import sys
from idcfs.demo.s3http import Connection
with Connection(sys.argv[1]) as store:
    print(*store.list_objects(*sys.argv[2:]), sep="\\n")
"""

_FIND_LIMIT_S: Final = 900.0
_REPETITIONS: Final = 5

COMMANDS: Final = {
    "--version": ("--version",),
    "--help": ("--help",),
    "size": ("size", "--collection-id=lidc_idri"),
    "query": ("query", "SELECT count(*) FROM index"),
}
"""Commands that need no network, by the name of their figure."""


def list_wide(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time `ls` of the widest series."""
    series = bench.stored.objects.wide
    if contestant == PAGES:
        return _list_pages(bench, link)

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        command = ["ls", str(tree.directory(series))]
        done = run_well(command, scratch=scratch, timeout_s=LIMIT_S)
        expect_equal("ls", done.stdout.splitlines(), list(series.names))
        return {"seconds": done.seconds}

    return bench.on_mount(contestant, link, work)


def _list_pages(bench: Bench, link: str) -> Metrics:
    series = bench.stored.objects.wide
    where = (bench.links[link].url, series.bucket, f"{series.uuid}/")
    with bench.scratch() as scratch:
        mark = bench.links[link].mark()
        command = [sys.executable, "-c", _PAGES_PROGRAM, *where]
        done = run_well(command, scratch=scratch, timeout_s=LIMIT_S)
        wire = bench.links[link].since(mark)
    keys = [f"{series.uuid}/{name}" for name in series.names]
    expect_equal("the pages", done.stdout.splitlines(), keys)
    return {
        "seconds": done.seconds,
        "cpu_s": done.cpu_s,
        "wire_bytes": wire.size_bytes,
        "wire_requests": wire.requests,
    }


def list_patients(bench: Bench, contestant: str) -> Metrics:
    """Time `ls` of the collection with the most patients, on a mount nobody has used yet."""

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        done = run_well(["ls", str(tree.root / "nlst")], scratch=scratch, timeout_s=LIMIT_S)
        sql = "SELECT DISTINCT PatientID FROM index WHERE collection_id = 'nlst'"
        patients = sorted(str(row["PatientID"]) for row in query(sql, scratch))
        expect_equal("ls nlst", sorted(done.stdout.splitlines()), patients)
        return {"seconds": done.seconds}

    return bench.on_mount(contestant, "plain", work)


def walk(bench: Bench, contestant: str) -> Metrics:
    """Time `find` over every directory of the index, down to the series."""

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        # The series themselves are not opened: that would list a million prefixes.
        command = ["find", str(tree.root), "-maxdepth", "4", "-printf", "%d"]
        done = run_well(command, scratch=scratch, timeout_s=_FIND_LIMIT_S)
        series = query("SELECT count(*) AS series FROM index", scratch)[0]["series"]
        expect_equal("series found", done.stdout.count("4"), series)
        return {"seconds": done.seconds, "directories": len(done.stdout)}

    return bench.on_mount(contestant, "plain", work)


def start(bench: Bench, contestant: str) -> Metrics:
    """Time from the `mount` command of the whole index to the end of the first `ls`.

    `seconds` is with the layout compiled before, `first_ever_seconds` with nothing there.
    """
    with bench.scratch() as scratch:
        metrics = {"first_ever_seconds": _start_once(bench, scratch)}
        return metrics | {"seconds": _start_once(bench, scratch)}


def _start_once(bench: Bench, scratch: Path) -> float:
    began = time.perf_counter()
    with detached(bench.links["plain"], scratch, scratch / "cache") as path:
        names = run_well(["ls", str(path)], scratch=scratch, timeout_s=LIMIT_S).stdout
        seconds = time.perf_counter() - began
        expect_equal("nlst among the collections", "nlst" in names.splitlines(), True)
    return seconds


def answer(bench: Bench, contestant: str) -> Metrics:
    """Time the commands that need no network; `seconds` is the slowest one's median."""
    metrics: Metrics = {}
    with bench.scratch() as scratch:
        for name, arguments in COMMANDS.items():
            took = [
                run_well(idcfs_command(*arguments), scratch=scratch, timeout_s=LIMIT_S).seconds
                for _ in range(_REPETITIONS + 1)
            ]
            metrics[f"{name} seconds"] = sorted(took[1:])[_REPETITIONS // 2]
    return metrics | {"seconds": max(metrics.values())}
