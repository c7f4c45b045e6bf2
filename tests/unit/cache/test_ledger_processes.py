"""Eight processes write under one small limit, and some are killed on the way."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.cache.disk_ledger import DiskLedger
from idcfs.errors import CacheError
from tests.support.mounting import DEADLINE_S
from tests.unit.cache.ledgers import BLOCK, in_books, name, on_disk, quiet, store

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

PROCESSES = 8
LIMIT = 512 * BLOCK
_spawn = multiprocessing.get_context("spawn")


def write_much(root: str, number: int, files: int) -> None:
    """Store files of up to 16 blocks in series of four, some of them shared by all."""
    chance = random.Random(number)
    ledger = DiskLedger(Path(root), cache_size=str(LIMIT), min_free="0", flush_s=0.05)
    for count in range(files):
        series = name(count // 4 if count % 16 < 4 else 10_000 * (number + 1) + count // 4)
        with contextlib.suppress(CacheError):
            size_bytes = chance.randrange(16 * BLOCK)
            store(Path(root), ledger, series, size_bytes, file=f"{number}-{count}.dcm")
    ledger.close()


def start(root: Path, files: int) -> list[BaseProcess]:
    processes: list[BaseProcess] = [
        _spawn.Process(target=write_much, args=(str(root), number, files))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    return processes


def occupied(root: Path) -> int:
    """Return what the objects occupy: of the files that are there in two looks, and so in between.

    One look alone would count files that came after others had gone. A file is told by its path,
    which none has twice: a new one may have the inode of one that has gone.
    """
    before, after = look(root), look(root)
    return sum(min(size, after[file]) for file, size in before.items() if file in after)


def look(root: Path) -> dict[Path, int]:
    found: dict[Path, int] = {}
    for directory, _, files in os.walk(root / "objects"):
        for file in files:
            path = Path(directory, file)
            with contextlib.suppress(FileNotFoundError):
                found[path] = path.stat().st_blocks * 512
    return found


def test_eight_writers_never_exceed_the_limit(root: Path) -> None:
    processes = start(root, files=150)
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, occupied(root))
        assert most <= LIMIT
    for process in processes:
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    assert most > LIMIT // 2
    after = quiet(root, LIMIT)
    assert in_books(after) == on_disk(root)
    after.close()


def test_writers_that_are_killed_leave_no_room_and_no_lock_behind(root: Path) -> None:
    processes = start(root, files=100_000)
    deadline = time.monotonic() + DEADLINE_S
    while occupied(root) < LIMIT // 2:
        assert time.monotonic() < deadline
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(DEADLINE_S)
        assert occupied(root) <= LIMIT
    after = quiet(root, LIMIT)
    assert in_books(after) == on_disk(root)
    after.reserve(LIMIT - BLOCK).release()
    # Who was killed before it wrote a byte leaves an empty file, which nothing is gained from.
    assert not any(on_disk(root).values()), "all of it could go"
    after.close()
    assert not list((root / "ledger" / "members").iterdir())
