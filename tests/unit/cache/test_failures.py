"""A disk that fails, in every way that can be had: each is a CacheError and nothing else."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.audit import verify_cache
from idcfs.cache.opening import open_cache
from idcfs.errors import CacheError
from idcfs.model import Extent, Instance, Listing
from tests.support.stores import make_content, make_ref, series_uuid
from tests.unit.cache.steps import path_of, start, store, store_all, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = make_content(90)
REF = make_ref(CONTENT)
LISTING = Listing(series_uuid(1), (Instance("a.dcm", 1, 2, "e"),))


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_where_the_cache_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for root in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none"), Path("\0")):
        with pytest.raises(CacheError, match="--cache-dir"):
            DiskCache(root)


@pytest.mark.parametrize("name", ["objects", "listings"])
def test_a_file_where_a_directory_should_be(root: Path, cache: DiskCache, name: str) -> None:
    (root / name).write_bytes(b"")

    if name == "listings":
        with pytest.raises(CacheError):
            cache.find_listing(LISTING.series)
        with pytest.raises(CacheError):
            cache.put_listing(LISTING)
        assert unfinished(root) == []
    else:
        with pytest.raises(CacheError):
            cache.open(REF)


def test_the_objects_directory_becomes_a_file_while_an_object_is_open(
    root: Path, cache: DiskCache
) -> None:
    held = cache.open(REF)
    (root / "objects").write_bytes(b"")

    with pytest.raises(CacheError):
        store_all(held, REF, CONTENT)

    assert held.missing(REF.whole) == [REF.whole]
    assert unfinished(root) == []
    held.discard(REF.whole)


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_something_else_under_the_name_of_an_object(
    root: Path, cache: DiskCache, kind: str, tmp_path: Path
) -> None:
    path = path_of(root, REF)
    path.parent.mkdir(parents=True)
    content: bytes | None = CONTENT
    if kind == "directory":
        (path / "inside").mkdir(parents=True)
        content = make_content(path.stat().st_size)  # of "the right size"
    elif kind == "pipe":
        os.mkfifo(path)
        content = b""
    else:
        (tmp_path / "elsewhere").write_bytes(CONTENT)
        path.symlink_to(tmp_path / "elsewhere")
        content = None
    if content is None:
        with pytest.raises(CacheError):
            cache.open(REF)
        return
    ref = make_ref(content)
    held = cache.open(ref)
    if content:
        assert held.missing(ref.whole) != []
        with pytest.raises(CacheError):
            store_all(held, ref, content)
    else:
        assert held._holding.held is None  # nothing shows it outside
    held.discard(REF.whole)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc/passwd", "with\0nul", "x" * 256])
def test_names_of_objects_that_lead_elsewhere(cache: DiskCache, name: str) -> None:
    store_all(cache.open(REF), REF, CONTENT)

    with pytest.raises(CacheError):
        cache.open(make_ref(CONTENT, name))


@pytest.mark.parametrize("call", ["open", "fstat", "pwrite", "mkdir", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_calls_that_fail_while_an_object_comes_in(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    if call == "fstat":
        store_all(cache.open(REF), REF, CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(number))
        with pytest.raises(CacheError, match=os.strerror(number)):
            store_all(cache.open(REF), REF, CONTENT)

    held = cache.open(REF)
    store_all(held, REF, CONTENT)
    assert held.read(REF.whole) == CONTENT


@pytest.mark.parametrize("call", ["pread", "preadv"])
def test_calls_that_fail_while_an_object_is_read(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    held = cache.open(REF)
    store_all(held, REF, CONTENT)
    monkeypatch.setattr(os, call, failing(errno.EIO))

    with pytest.raises(CacheError, match="Input/output"):
        held.read(REF.whole) if call == "pread" else held.read_nowait(REF.whole)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_bytes_not_in_memory_are_not_an_error(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    held = cache.open(REF)
    store_all(held, REF, CONTENT)
    monkeypatch.setattr(os, "preadv", failing(number))

    assert held.read_nowait(REF.whole) is None


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("call", ["link", "rename", "ftruncate"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_the_disk_fails_when_the_last_unit_has_come(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Nothing is lost: the object stays in parts until somebody can complete it."""
    content = make_content(150)
    ref = make_ref(content)
    held = cache.open(ref)
    for unit in held.missing(ref.whole)[:3]:
        store(held, content, unit)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(number))
        store_all(held, ref, content)

    assert held.missing(ref.whole) == []
    assert held.read(ref.whole) == content
    assert not path_of(root, ref).exists()
    assert unfinished(root) == []
    again = cache.open(ref)
    assert again.read(ref.whole) == content
    assert path_of(root, ref).read_bytes() == content


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "mkdir", "fstat", "pread"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_calls_that_fail_while_a_unit_comes_in(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    content = make_content(150)
    ref = make_ref(content)
    with monkeypatch.context() as patch:
        held = cache.open(ref)
        patch.setattr(os, call, failing(number))
        with pytest.raises(CacheError, match=os.strerror(number)):
            store_all(held, ref, content)

    store_all(held, ref, content)
    assert held.read(ref.whole) == content
    assert path_of(root, ref).read_bytes() == content


@pytest.mark.usefixtures("small_units")
def test_short_writes_are_carried_on(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(
        os,
        "pwrite",
        lambda fd, content, offset: pwrite(fd, content[: len(content) // 2 + 1], offset),
    )
    for content in (CONTENT, make_content(150)):
        ref = make_ref(content, f"{len(content)}.dcm")
        held = cache.open(ref)
        store_all(held, ref, content)
        assert held.read(ref.whole) == content
        assert path_of(root, ref).read_bytes() == content


def test_discard_and_close_and_abort_never_raise(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, partial = cache.open(REF), cache.open(make_ref(CONTENT, "b.dcm"))
    store_all(whole, REF, CONTENT)
    writer = start(partial, REF.whole)
    for call in ("unlink", "ftruncate"):
        monkeypatch.setattr(os, call, failing(errno.EROFS))

    writer.abort()
    whole.discard(REF.whole)
    partial.close()

    assert whole.missing(REF.whole) == [REF.whole]


def test_a_file_size_limit(cache: DiskCache, root: Path) -> None:
    content = make_content(1 << 16)
    ref = make_ref(content)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, hard))
    try:
        held = cache.open(ref)
        writer = start(held, ref.whole)
        with pytest.raises(CacheError, match="too large"):
            writer.write(memoryview(content))
        writer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert unfinished(root) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    made = tmp_path / "tiny"
    made.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "idcfs-test", str(made)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield made
    subprocess.run(["umount", "--lazy", str(made)], check=True)


def test_a_full_disk(tiny_disk: Path) -> None:
    content = make_content(1 << 20)
    cache = DiskCache(tiny_disk / "cache")
    big, small = make_ref(content), make_ref(CONTENT, "small.dcm")
    writer = start(cache.open(big), big.whole)

    with pytest.raises(CacheError, match="No space left"):
        writer.write(memoryview(content))
    with pytest.raises(CacheError, match="No space left"):
        store_all(cache.open(small), small, CONTENT)
    with pytest.raises(CacheError, match="No space left"):
        cache.put_listing(LISTING)

    writer.abort()
    store_all(cache.open(small), small, CONTENT)
    cache.put_listing(LISTING)
    cache.close()


def test_a_read_only_disk(tiny_disk: Path) -> None:
    cache = DiskCache(tiny_disk / "cache")
    store_all(cache.open(REF), REF, CONTENT)
    cache.close()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)

    check_that_it_only_reads(tiny_disk / "cache", "Read-only")


@pytest.mark.usefixtures("small_units")
def test_what_is_held_in_part_is_read_from_a_read_only_disk(tiny_disk: Path) -> None:
    root, part = tiny_disk / "cache", make_ref(make_content(150), "part.dcm")
    cache = DiskCache(root)
    store(cache.open(part), make_content(150), Extent(40, 40))
    cache.close()
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)

    held = DiskCache(root).open(part)
    assert held.read(Extent(40, 40)) == make_content(150)[40:80]
    with pytest.raises(CacheError):
        store(held, make_content(150), Extent(0, 40))
    held.discard(Extent(40, 40))
    held.close()
    held = DiskCache(root).open(part)
    assert held.missing(Extent(40, 40)) == []
    assert list(verify_cache(root)) == []


def test_a_disk_that_was_full_before(tiny_disk: Path) -> None:
    cache = DiskCache(tiny_disk / "cache")
    store_all(cache.open(REF), REF, CONTENT)
    cache.close()
    with (tiny_disk / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(1 << 20))  # as much as there is room for

    check_that_it_only_reads(tiny_disk / "cache", "No space left")

    other = make_ref(CONTENT, "other.dcm")
    cache = DiskCache(tiny_disk / "cache")
    (tiny_disk / "filler").unlink()
    store_all(cache.open(other), other, CONTENT)
    cache.close()


def check_that_it_only_reads(root: Path, reason: str) -> None:
    """What is there is served; what is not cannot be written, and that is a CacheError."""
    cache = DiskCache(root)
    assert cache.failure is None or re.search(reason, str(cache.failure))
    assert cache.open(REF).read(REF.whole) == CONTENT
    other = make_ref(CONTENT, "other.dcm")
    held = cache.open(other)
    assert held.missing(other.whole) == [other.whole]
    with pytest.raises(CacheError, match=reason):
        store_all(held, other, CONTENT)
    with pytest.raises(CacheError, match=reason):
        cache.put_listing(LISTING)
    cache.close()


def test_a_cache_cleared_under_a_running_process_heals(root: Path, cache: DiskCache) -> None:
    kept, coming = cache.open(REF), cache.open(make_ref(CONTENT, "b.dcm"))
    store_all(kept, REF, CONTENT)
    writer = start(coming, REF.whole)
    writer.write(memoryview(CONTENT))
    shutil.rmtree(root)

    assert kept.read(REF.whole) == CONTENT
    with pytest.raises(CacheError):
        writer.commit()
    store(coming, CONTENT, REF.whole)
    cache.put_listing(LISTING)

    assert cache.open(make_ref(CONTENT, "b.dcm")).read(REF.whole) == CONTENT
    assert cache.find_listing(LISTING.series) == LISTING
    # The new scratch directory is as safe from others as the first one was.
    writer = start(cache.open(make_ref(CONTENT, "c.dcm")), REF.whole)
    DiskCache(root).close()
    writer.write(memoryview(CONTENT))
    writer.commit()


def test_after_the_end_writing_is_an_error_and_closing_is_not(root: Path, cache: DiskCache) -> None:
    held = cache.open(REF)
    cache.close()
    cache.close()

    with pytest.raises(CacheError):
        start(held, REF.whole)
    assert list((root / "scratch").iterdir()) == []


def test_a_directory_out_of_reach(tmp_path: Path) -> None:
    # Its name is too long: what may not be entered is within root's reach.
    with pytest.raises(CacheError, match="choose another with --cache-dir"):
        open_cache(tmp_path / ("x" * 300), background=False)
