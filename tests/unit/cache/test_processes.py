"""Processes that are killed, and processes that share the cache."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, scratch, units
from idcfs.errors import CacheError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import path_of, store_all, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[3]

PROGRAM = """
import sys
from pathlib import Path
from idcfs.cache import DiskCache, units
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import start, store, store_all
units.WHOLE_LIMIT_BYTES, units.UNIT_BYTES, units.BLOCK_BYTES = 100_000, 40_000, 20_000
cache = DiskCache(Path(sys.argv[1]))
content = make_content(90_000)
store_all(cache.open(make_ref(content)), make_ref(content), content)
half = cache.open(make_ref(content, "half.dcm"))
start(half, make_ref(content).whole).write(memoryview(content)[:45_000])
large = make_content(150_000)
pieces = cache.open(make_ref(large, "pieces.dcm"))
for unit in pieces.missing(make_ref(large).whole)[1:]:
    store(pieces, large, unit)
print("ready", flush=True)
for line in sys.stdin:
    ref = make_ref(content, line.strip())
    store_all(cache.open(ref), ref, content)
    print("stored", flush=True)
"""
CONTENT = make_content(90_000)


class Other:
    """A process that keeps one object, is half way through two more, and does as told."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )

    def wait_for(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def store(self, name: str) -> None:
        assert self.process.stdin is not None
        print(name, file=self.process.stdin, flush=True)

    def kill(self) -> None:
        with self.process:
            self.process.send_signal(signal.SIGKILL)


@pytest.fixture
def other(root: Path) -> Iterator[Other]:
    other = Other(root)
    other.wait_for("ready")
    yield other
    other.kill()


def test_a_killed_process_leaves_what_it_had_stored(
    root: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "WHOLE_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(units, "UNIT_BYTES", 40_000)
    assert len(unfinished(root)) == 1
    other.kill()

    cache = DiskCache(root)

    assert unfinished(root) == []
    assert len(list((root / "scratch").iterdir())) == 1
    assert cache.open(make_ref(CONTENT)).read(make_ref(CONTENT).whole) == CONTENT
    half = make_ref(CONTENT, "half.dcm")
    assert cache.open(half).missing(half.whole) == [half.whole]
    assert not path_of(root, half).exists()
    large = make_content(150_000)
    pieces = make_ref(large, "pieces.dcm")
    held = cache.open(pieces)
    assert held.missing(pieces.whole) == [Extent(0, 40_000)]
    assert held.read(Extent(40_000, 110_000)) == large[40_000:]
    store_all(held, pieces, large)
    assert path_of(root, pieces).read_bytes() == large
    cache.close()


def test_a_living_process_keeps_its_scratch(root: Path, other: Other) -> None:
    cache = DiskCache(root)
    cache.close()

    assert len(unfinished(root)) == 1
    other.store("later.dcm")
    other.wait_for("stored")
    assert path_of(root, make_ref(CONTENT, "later.dcm")).read_bytes() == CONTENT


def test_two_processes_store_the_same_objects_at_once(root: Path, other: Other) -> None:
    cache = DiskCache(root)
    names = [f"{number}.dcm" for number in range(20)]

    for name in names:
        ref = make_ref(CONTENT, name)
        held = cache.open(ref)
        other.store(name)
        if held.missing(ref.whole):
            store_all(held, ref, CONTENT)
        assert held.read(ref.whole) == CONTENT
        other.wait_for("stored")
        assert path_of(root, ref).read_bytes() == CONTENT
    cache.close()


def test_a_cache_that_is_only_dropped_keeps_what_was_whole(root: Path) -> None:
    ref = make_ref(CONTENT)
    lost = DiskCache(root)
    store_all(lost.open(ref), ref, CONTENT)
    del lost

    cache = DiskCache(root)

    assert cache.open(ref).read(ref.whole) == CONTENT


def test_a_scratch_directory_made_but_not_yet_locked(root: Path) -> None:
    """What a process leaves that is killed between making its directory and locking it."""
    DiskCache(root).close()
    (root / "scratch" / "unlocked").mkdir()
    (root / "scratch" / "a file").write_bytes(b"")

    DiskCache(root).close()

    assert [path.name for path in (root / "scratch").iterdir()] == ["a file"]


def test_a_directory_removed_before_it_was_locked_is_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process opens the cache between our mkdir and our lock."""
    flock = fcntl.flock
    interrupted: list[int] = []

    def late_flock(fd: int, how: int) -> None:
        if how == fcntl.LOCK_EX and not interrupted:
            interrupted.append(fd)
            scratch.remove_abandoned(root / "scratch")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    cache = DiskCache(root)

    assert interrupted
    assert len(list((root / "scratch").iterdir())) == 1
    ref = make_ref(CONTENT)
    store_all(cache.open(ref), ref, CONTENT)
    cache.close()


def test_a_hundred_caches_opened_at_once_all_work(root: Path) -> None:
    failures: list[BaseException] = []

    def use(number: int) -> None:
        ref = make_ref(CONTENT, f"{number % 7}.dcm")
        try:
            for _ in range(5):
                cache = DiskCache(root)
                held = cache.open(ref)
                if held.missing(ref.whole):
                    store_all(held, ref, CONTENT)
                assert held.read(ref.whole) == CONTENT
                cache.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert list((root / "scratch").iterdir()) == []


def test_a_lock_that_the_file_system_refuses(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, "flock", refuse)

    cache = DiskCache(root)

    assert "locks" in str(cache.failure)
    with pytest.raises(CacheError, match="locks"):
        store_all(cache.open(make_ref(CONTENT)), make_ref(CONTENT), CONTENT)
