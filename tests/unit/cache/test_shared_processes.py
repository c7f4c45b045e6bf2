"""Several processes, as on several hosts, share a directory without locks; some are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.audit import verify_cache
from idcfs.cache.shared_ledger import SharedLedger
from idcfs.cache.shared_scratch import SHARED, SharedScratch
from idcfs.errors import CacheError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.ledgers import BLOCK, on_disk
from tests.unit.cache.steps import fill

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from idcfs.model import ObjectRef

PROJECT = Path(__file__).parents[3]
PROCESSES = 5
LIMIT = 120 * BLOCK
STALE_S = 0.3
UNITS = {"WHOLE_LIMIT_BYTES": 6 * BLOCK, "UNIT_BYTES": 2 * BLOCK, "BLOCK_BYTES": BLOCK}
SIZES = [BLOCK - 5, 3 * BLOCK, 5 * BLOCK + 1, 7 * BLOCK, 9 * BLOCK + 9]
_FORBIDDEN = ("fcntl.flock", "fcntl.lockf", "fcntl.fcntl", "sqlite3.connect", "mmap.__new__")
_LOCKED, _WRONG = 4, 3
_spawn = multiprocessing.get_context("spawn")


def objects() -> list[tuple[ObjectRef, bytes]]:
    contents = [make_content(SIZES[number % len(SIZES)], number) for number in range(40)]
    return [
        (make_ref(content, f"{number}.dcm", series=1 + number // 2), content)
        for number, content in enumerate(contents)
    ]


def forbid(event: str, _: tuple[object, ...]) -> None:
    if event in _FORBIDDEN:
        os._exit(_LOCKED)


def share(root: str, number: int, steps: int) -> None:
    """Bring objects, whole and in part, and compare all that can be read with what is right."""
    sys.addaudithook(forbid)
    for unit, value in UNITS.items():
        setattr(sys.modules["idcfs.cache.units"], unit, value)
    chance = random.Random(number)
    scratch = SharedScratch(Path(root))
    ledger = SharedLedger(
        Path(root),
        scratch=scratch,
        cache_size=str(LIMIT),
        min_free="0",
        heartbeat_s=STALE_S / 10,
        patience_s=STALE_S,
        stale_s=STALE_S,
    )
    cache = DiskCache(Path(root), ledger=ledger, shared=scratch)
    found = objects()
    for _ in range(steps):
        ref, content = chance.choice(found)
        begin = chance.randrange(len(content))
        extent = Extent(begin, chance.randrange(len(content) - begin) + 1)
        try:
            held = cache.open(ref)
        except CacheError:
            continue
        try:
            fill(held, content, ref.whole if chance.random() < 0.5 else extent)
            if held.read(extent) != content[extent.offset : extent.end]:
                os._exit(_WRONG)
        except CacheError:
            held.discard(extent)  # as a reader does, who then goes to the network
        finally:
            held.close()
    cache.close()


def start(root: Path, number: int, steps: int) -> BaseProcess:
    process = _spawn.Process(target=share, args=(str(root), number, steps))
    process.start()
    return process


def check_all_right(root: Path) -> None:
    scratch = SharedScratch(root)
    cache = DiskCache(root, shared=scratch)
    assert list(verify_cache(root, shared=scratch)) == []
    for ref, content in objects():
        held = cache.open(ref)
        if not held.missing(ref.whole):
            assert held.read(ref.whole) == content
        held.close()
    cache.close()


def test_processes_that_are_killed_cost_the_others_nothing(root: Path) -> None:
    doomed = [start(root, number, 10_000) for number in range(2)]
    others = [start(root, number, 150) for number in range(2, PROCESSES)]
    most = 0
    while any(process.is_alive() for process in others):
        most = max(most, sum(on_disk(root).values()))
        if most > LIMIT // 2 and doomed:
            doomed.pop().kill()
        time.sleep(0.01)  # to leave them the processors
    for process in (*doomed, *others):
        process.join(timeout=60)
    assert not doomed
    assert [process.exitcode for process in others] == [0] * len(others)
    assert LIMIT // 2 < most <= LIMIT + PROCESSES * 12 * BLOCK
    check_all_right(root)


def test_a_lease_that_a_killed_process_held_is_taken_over(root: Path) -> None:
    DiskCache(root, shared=SharedScratch(root)).close()
    lease = root / SHARED / "lease"
    lease.parent.mkdir(exist_ok=True)
    lease.write_bytes(b"of-a-process-that-was-killed")
    process = start(root, 1, 40)
    process.join()
    assert process.exitcode == 0
    assert sum(on_disk(root).values()) > 0
    assert not lease.exists()
    check_all_right(root)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_is_asked_for_no_lock(root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = (
        f"from tests.unit.cache.test_shared_processes import share\nshare({str(root)!r}, 1, 60)\n"
    )
    subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-y",
            "-e",
            "trace=file,fcntl,flock,mmap",
            "-o",
            str(trace),
            sys.executable,
            "-c",
            program,
        ],
        check=True,
        cwd=PROJECT,
    )
    lines = [line for line in trace.read_text().splitlines() if str(root) in line]
    assert any("rename" in line for line in lines)
    assert not [line for line in lines if "LK" in line or "flock(" in line]
    assert not [line for line in lines if "sqlite" in line or "MAP_SHARED" in line]
