"""Opened at the very instant in which another completes it: what was stored is there."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, files
from idcfs.errors import CacheError, IntegrityError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.support.threads import no_threads
from tests.unit.cache.steps import Meddler, fill, part_of, path_of, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.cache import CachedObject

CONTENT = make_content(150)
REF = make_ref(CONTENT)
STORED = Extent(0, 120)
pytestmark = pytest.mark.usefixtures("small_units")


@pytest.fixture
def other(root: Path) -> Iterator[DiskCache]:
    other = DiskCache(root)
    yield other
    other.close()


def begin(other: DiskCache, name: str = "a.dcm") -> CachedObject:
    """Store all of an object but its last unit."""
    held = other.open(make_ref(CONTENT, name))
    fill(held, CONTENT, STORED)
    return held


def test_completed_at_any_instant_of_an_opening(
    root: Path, cache: DiskCache, other: DiskCache
) -> None:
    for at in itertools.count():
        ref = make_ref(CONTENT, f"{at}.dcm")
        theirs = begin(other, ref.instance.name)
        completed: list[int] = []

        def complete(
            theirs: CachedObject = theirs, at: int = at, completed: list[int] = completed
        ) -> None:
            fill(theirs, CONTENT, REF.whole)
            completed.append(at)

        with Meddler(at, complete, after=False):
            held = cache.open(ref)
        assert held.missing(STORED) == [], at
        assert held.read(STORED) == CONTENT[:120]
        assert unfinished(root) == []
        if not completed:
            break
        assert path_of(root, ref).read_bytes() == CONTENT
        assert not part_of(root, ref).exists()
    assert at >= 5  # the whole, the part, its length, its footer and its table


@pytest.mark.parametrize("read", [0, 1], ids=["footer", "table"])
def test_who_finds_the_table_just_cut_off_waits_for_the_name(
    cache: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    """The other stands still between the two until this one has tried the lock in vain."""
    theirs = begin(other)
    completing = threading.Thread(target=fill, args=(theirs, CONTENT, REF.whole))
    is_cut, was_tried = threading.Event(), threading.Event()
    link, pread, try_lock = os.link, os.pread, files.try_lock
    reads = itertools.count()

    def link_later(source: str, target: Path, *, src_dir_fd: int) -> None:
        is_cut.set()
        was_tried.wait()
        link(source, target, src_dir_fd=src_dir_fd)

    def read_late(fd: int, length: int, offset: int) -> bytes:
        if threading.current_thread() is not completing and next(reads) == read:
            completing.start()
            is_cut.wait()
        return pread(fd, length, offset)

    def try_and_tell(fd: int, start: int, length: int) -> bool:
        is_locked = try_lock(fd, start, length)
        if not is_locked:
            was_tried.set()
        return is_locked

    monkeypatch.setattr(os, "link", link_later)
    monkeypatch.setattr(os, "pread", read_late)
    monkeypatch.setattr(files, "try_lock", try_and_tell)
    try:
        held = cache.open(REF)
    finally:
        was_tried.set()
        completing.join()

    assert held.missing(STORED) == []
    assert held.read(STORED) == CONTENT[:120]


def test_two_who_give_it_its_name_at_once_leave_no_other(
    root: Path, cache: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name in the scratch directory would keep the disk occupied when the file is evicted."""
    theirs = begin(other)
    ftruncate = os.ftruncate

    def cut(fd: int, length: int) -> None:
        ftruncate(fd, length)
        assert cache.open(REF).missing(REF.whole) == []

    monkeypatch.setattr(os, "ftruncate", cut)
    fill(theirs, CONTENT, REF.whole)

    assert unfinished(root) == []
    assert path_of(root, REF).stat().st_nlink == 1


@pytest.mark.parametrize("is_right", [True, False])
def test_who_settles_checks_what_nobody_has_waited_for(
    root: Path, cache: DiskCache, is_right: bool
) -> None:
    content = CONTENT if is_right else CONTENT[:-1] + b"?"
    held = cache.open(REF)
    fill(held, content, STORED)
    last = Extent(STORED.end, len(CONTENT) - STORED.end)
    writer = held.writer(last, waits=False)
    assert writer is not None
    writer.write(memoryview(content[last.offset :]))
    with pytest.raises(CacheError, match="must be checked"):
        writer.commit()
    assert held.missing(REF.whole) == []
    assert not path_of(root, REF).exists()
    with nullcontext() if is_right else pytest.raises(IntegrityError):
        held.settle()
    assert path_of(root, REF).exists() is is_right
    assert bool(held.missing(REF.whole)) is not is_right


def test_what_proves_wrong_later_gives_its_blocks_back_at_once(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idcfs.cache.completion._LATER_BYTES", 100)
    gc.disable()  # it looks rarely for what holds one another, and a slide has gigabytes
    try:
        cached = cache.open(REF)
        fill_units(cached, bytes(len(CONTENT)))
        with pytest.raises(IntegrityError):
            cached.settle()
        cached.close()
        del cached
        assert not [name for name in open_names() if REF.instance.name in name]
    finally:
        gc.enable()


@pytest.mark.parametrize("is_right", [True, False])
def test_where_no_thread_is_to_be_had_it_is_checked_at_once(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    monkeypatch.setattr("idcfs.cache.completion._LATER_BYTES", 100)
    content = CONTENT if is_right else CONTENT[:-1] + b"?"
    cached = cache.open(REF)
    with (
        no_threads("check ") as refused,
        nullcontext() if is_right else pytest.raises(IntegrityError),
    ):
        fill_units(cached, content)
    assert len(refused) == 1
    assert path_of(root, REF).exists() is is_right
    fill_units(cached, CONTENT)
    cached.settle()
    assert path_of(root, REF).read_bytes() == CONTENT
    cached.close()


def fill_units(cached: CachedObject, content: bytes) -> None:
    """Store what is missing, a unit at a time, so that the whole must be checked in the end."""
    for unit in cached.missing(REF.whole):
        writer = cached.writer(unit)
        assert writer is not None
        writer.write(memoryview(content[unit.offset : unit.end]))
        writer.commit()


def open_names() -> list[str]:
    """Return the names of this process's open files, which may have been removed."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            names.append(str(entry.readlink()))
    return names
