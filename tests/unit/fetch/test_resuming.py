"""Downloads that go on where another one was cut off, and files that two want to write."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, BinaryIO

import pytest
import trio
import trio.lowlevel

from idcfs.errors import AccessDeniedError, IntegrityError, StoreUnavailableError
from idcfs.model import Extent
from tests.support.mounting import wait_until
from tests.support.stores import Gate, MemoryStore, in_trio, make_content, make_ref
from tests.unit.fetch.wired import fetching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.cache import DiskCache
    from idcfs.model import ObjectRef

SMALL = make_content(90)
LARGE = make_content(1000)
RUNS = [Extent(start, min(160, 1000 - start)) for start in range(0, 1000, 160)]
OUT_OF_REACH = StoreUnavailableError("no network")
PART, RECORD = ".a.dcm.idcfs-part", ".a.dcm.idcfs-runs"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    made = tmp_path / "there"
    made.mkdir()
    return made


def download(
    store: MemoryStore,
    cache: DiskCache,
    ref: ObjectRef,
    there: Path,
    *,
    verify: bool = True,
    error: Exception | None = None,
) -> None:
    @in_trio
    async def run() -> None:
        raised = pytest.raises(type(error)) if error else nullcontext()
        async with fetching(store, cache) as fetcher:
            with raised:
                await fetcher.download(ref, there / "a.dcm", verify_content=verify)

    run()


def cut_off(
    store: MemoryStore,
    cache: DiskCache,
    ref: ObjectRef,
    there: Path,
    error: Exception = OUT_OF_REACH,
) -> None:
    """Download all runs but the last, which fails, and empty the log."""

    def fail(key: str, extent: Extent) -> None:
        if extent == RUNS[-1]:
            wait_until(lambda: store.ended.count("") >= len(RUNS) - 1, "the other runs are there")
            raise error

    store.on_get = fail
    download(store, cache, ref, there, error=error)
    store.on_get = lambda key, extent: None
    store.gets.clear()


def asked(store: MemoryStore) -> list[Extent]:
    return sorted((extent for _, extent in store.gets), key=lambda extent: extent.offset)


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), AccessDeniedError("403")])
@pytest.mark.parametrize("verify", [True, False])
def test_only_what_is_missing_is_fetched(
    store: MemoryStore, cache: DiskCache, there: Path, error: Exception, verify: bool
) -> None:
    ref = store.add_content(LARGE)
    cut_off(store, cache, ref, there, error)
    assert sorted(os.listdir(there)) == [PART, RECORD]
    download(store, cache, ref, there, verify=verify)
    assert asked(store) == RUNS[-1:]
    assert os.listdir(there) == ["a.dcm"]
    assert (there / "a.dcm").read_bytes() == LARGE


@in_trio
async def test_a_cancelled_download_goes_on_too(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(LARGE)
    gate = Gate()

    def hold(key: str, extent: Extent) -> None:
        if extent == RUNS[-1]:
            gate.hold()

    store.on_get = hold
    async with fetching(store, cache) as fetcher:
        async with trio.open_nursery() as downloading:
            downloading.start_soon(fetcher.download, ref, there / "a.dcm")
            await gate.arrived()
            while store.ended.count("") < len(RUNS) - 1:
                await trio.lowlevel.checkpoint()
            downloading.cancel_scope.cancel()
            gate.open()
        assert not (there / "a.dcm").exists()
        store.on_get = lambda key, extent: None
        store.gets.clear()
        await fetcher.download(ref, there / "a.dcm")
    assert asked(store) == RUNS[-1:]
    assert os.listdir(there) == ["a.dcm"]


def damage(there: Path) -> list[Extent]:
    """Lose the bytes of a run that the record says has come, as a power cut may."""
    offset = int((there / RECORD).read_text().splitlines()[1].split()[0])
    with (there / PART).open("r+b") as file:
        file.seek(offset + 3)
        file.write(b"\0\0")
    return [run for run in RUNS if run.offset == offset]


def cut_data(there: Path) -> list[Extent]:
    os.truncate(there / PART, 170)
    return RUNS[1:]


def cut_record(there: Path) -> list[Extent]:
    *lines, last = (there / RECORD).read_text().splitlines()
    (there / RECORD).write_text("\n".join([*lines, last[:-1]]))
    return [run for run in RUNS if run.offset == int(last.split()[0])]


def lose_record(there: Path) -> list[Extent]:
    (there / RECORD).unlink()
    return RUNS


def garble_record(there: Path) -> list[Extent]:
    (there / RECORD).write_bytes(b"\xff" * 100)
    return RUNS


def lose_data(there: Path) -> list[Extent]:
    (there / PART).unlink()
    return RUNS


def link_data(there: Path) -> list[Extent]:
    os.link(there / PART, there / "mine")
    return RUNS


@pytest.mark.parametrize(
    "harm", [damage, cut_data, cut_record, lose_record, garble_record, lose_data, link_data]
)
def test_what_was_harmed_meanwhile_is_fetched_again(
    store: MemoryStore, cache: DiskCache, there: Path, harm: Callable[[Path], list[Extent]]
) -> None:
    ref = store.add_content(LARGE)
    cut_off(store, cache, ref, there)
    harmed = harm(there)
    before = {path: path.read_bytes() for path in there.glob("mine")}
    download(store, cache, ref, there, verify=False)
    assert asked(store) == [run for run in RUNS[:-1] if run in harmed] + RUNS[-1:]
    assert (there / "a.dcm").read_bytes() == LARGE
    assert {path: path.read_bytes() for path in there.glob("mine")} == before
    assert not [name for name in os.listdir(there) if name[0] == "."]


def test_bytes_behind_the_end_are_cut_off(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(LARGE)
    cut_off(store, cache, ref, there)
    os.truncate(there / PART, 2000)
    download(store, cache, ref, there)
    assert (there / "a.dcm").read_bytes() == LARGE


def test_an_object_that_changed_is_fetched_anew(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    cut_off(store, cache, store.add_content(LARGE), there)
    other = make_content(1000, seed=1)
    download(store, cache, store.add_content(other), there)
    assert asked(store) == RUNS
    assert (there / "a.dcm").read_bytes() == other


def test_without_an_etag_nothing_is_taken_over(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = make_ref(LARGE, etag="")
    store.add(ref, LARGE)
    cut_off(store, cache, ref, there)
    download(store, cache, ref, there)
    assert asked(store) == RUNS


def test_wrong_bytes_are_found_in_the_end_and_all_is_fetched_anew(
    store: MemoryStore, cache: DiskCache, there: Path
) -> None:
    ref = store.add_content(LARGE)
    store.alter = lambda body: b"?" + body[1:]
    cut_off(store, cache, ref, there)
    store.alter = lambda body: body
    download(store, cache, ref, there)
    assert asked(store) == [*RUNS, RUNS[-1]]
    assert (there / "a.dcm").read_bytes() == LARGE
    assert os.listdir(there) == ["a.dcm"]


@pytest.mark.parametrize("error", [IntegrityError("changed"), OSError(errno.ENOSPC, "full")])
def test_what_cannot_be_gone_on_with_is_removed(
    store: MemoryStore, cache: DiskCache, there: Path, error: Exception
) -> None:
    cut_off(store, cache, store.add_content(LARGE), there, error)
    assert os.listdir(there) == []


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_another_program_that_brings_the_same_file_is_left_alone(
    store: MemoryStore, cache: DiskCache, there: Path, content: bytes
) -> None:
    ref = store.add_content(content)
    with (there / PART).open("wb") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        others.write(b"theirs")
        others.flush()
        download(store, cache, ref, there)
        assert (there / PART).read_bytes() == b"theirs"
    assert (there / "a.dcm").read_bytes() == content
    assert sorted(os.listdir(there)) == [PART, "a.dcm"]
    (there / "a.dcm").unlink()  # the other program has died, and left its file
    download(store, cache, ref, there)
    assert os.listdir(there) == ["a.dcm"]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_another_host_whose_locks_are_not_seen(
    store: MemoryStore, cache: DiskCache, there: Path, content: bytes
) -> None:
    ref = store.add_content(content)
    once = threading.Semaphore(1)  # for the threads that bring the runs of a large one

    def take_away() -> None:
        if once.acquire(blocking=False):
            (there / PART).unlink()
            (there / PART).write_bytes(b"theirs")

    store.between_chunks = take_away
    download(store, cache, ref, there)
    assert (there / "a.dcm").read_bytes() == content
    assert os.listdir(there) == ["a.dcm"]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_system_without_locks(
    store: MemoryStore,
    cache: DiskCache,
    there: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    download(store, cache, store.add_content(content), there)
    assert (there / "a.dcm").read_bytes() == content
    assert os.listdir(there) == ["a.dcm"]


def test_a_file_that_gets_its_name_while_it_is_claimed_is_not_written_to(
    store: MemoryStore, cache: DiskCache, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there / PART).touch()
    flock, taken = fcntl.flock, list[BinaryIO]()

    def rename_and_lock(fd: int, operation: int) -> None:
        if (there / PART).exists() and not (there / "a.dcm").exists():
            (there / PART).rename(there / "a.dcm")
            taken.append((there / "a.dcm").open("rb"))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", rename_and_lock)
    download(store, cache, store.add_content(SMALL), there)
    with taken[0] as file:
        assert file.read() == b""
    assert (there / "a.dcm").read_bytes() == SMALL


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_what_is_in_the_hidden_place_is_not_followed(
    store: MemoryStore, cache: DiskCache, there: Path, content: bytes
) -> None:
    precious = there / "precious"
    precious.write_bytes(b"kept")
    (there / PART).symlink_to(precious)
    download(store, cache, store.add_content(content), there)
    assert (there / "a.dcm").read_bytes() == content
    assert precious.read_bytes() == b"kept"
