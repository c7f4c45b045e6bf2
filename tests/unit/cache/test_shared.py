"""A cache directory that several hosts share: no locks, and still never a wrong byte."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.audit import verify_cache
from idcfs.cache.census import Census, Member, find_members, occupied_bytes, read_census
from idcfs.cache.lease import Lease
from idcfs.cache.opening import file_system_type, is_shared_directory, open_cache
from idcfs.cache.shared_ledger import SharedLedger
from idcfs.cache.shared_scratch import SHARED, SharedScratch
from idcfs.cache.sweep import STALE_S
from idcfs.errors import CacheError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.ledgers import BLOCK, Clock, name, on_disk, store
from tests.unit.cache.steps import fill, part_of, path_of
from tests.unit.cache.steps import store as store_extent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idcfs.cache.opening import OpenCache

CONTENT = make_content(90)
REF = make_ref(CONTENT)
LARGE = make_content(150)
LARGE_REF = make_ref(LARGE, "large.dcm")


@pytest.fixture
def opened(root: Path) -> Iterator[Callable[..., OpenCache]]:
    """Open the cache as often as a test wants: each is another process to the others."""
    found: list[OpenCache] = []

    def open_one(**options: bool | str | None) -> OpenCache:
        found.append(open_cache(root, background=False, **options))  # type: ignore[arg-type]  # few
        return found[-1]

    yield open_one
    for each in found:
        each.cache.close()


def quiet(root: Path, limit: int, **options: float) -> SharedLedger:
    """Return the books of one process, which tells the others only when it stores."""
    scratch = SharedScratch(root)
    scratch.prepare()
    settings = {"patience_s": 0.0, **options}
    return SharedLedger(
        root,
        scratch=scratch,
        cache_size=str(limit),
        min_free="0",
        heartbeat_s=None,
        **settings,  # type: ignore[arg-type]  # seconds
    )


def grow_old(root: Path, *series: str, by_s: float = 2 * STALE_S) -> None:
    for each in series:
        path = root / "objects" / each[:2] / each
        then_s = path.stat().st_mtime - by_s
        os.utime(path, (then_s, then_s))


@pytest.mark.usefixtures("small_units")
def test_what_one_host_stored_the_others_have(root: Path, opened: Callable[..., OpenCache]) -> None:
    one, other = opened(shared=True).cache, opened().cache
    assert other.shared is not None
    for ref, content in ((REF, CONTENT), (LARGE_REF, LARGE)):
        fill(one.open(ref), content, ref.whole)
        assert path_of(root, ref).read_bytes() == content
        assert other.open(ref).read(ref.whole) == content


@pytest.mark.usefixtures("small_units")
def test_parts_are_each_processs_own(root: Path, opened: Callable[..., OpenCache]) -> None:
    one, other = opened(shared=True).cache, opened().cache
    store_extent(one.open(LARGE_REF), LARGE, Extent(0, 40))
    store_extent(other.open(LARGE_REF), LARGE, Extent(40, 40))

    assert one.open(LARGE_REF).missing(Extent(0, 80)) == [Extent(40, 40)]
    assert other.open(LARGE_REF).missing(Extent(0, 80)) == [Extent(0, 40)]
    assert not part_of(root, LARGE_REF).exists()
    fill(one.open(LARGE_REF), LARGE, LARGE_REF.whole)
    fill(other.open(LARGE_REF), LARGE, LARGE_REF.whole)
    assert path_of(root, LARGE_REF).read_bytes() == LARGE
    assert list(verify_cache(root, shared=one.shared)) == []


@pytest.mark.usefixtures("small_units")
def test_a_process_taken_for_dead_fails_to_write_and_goes_on(
    root: Path, opened: Callable[..., OpenCache]
) -> None:
    one, other = opened(shared=True).cache, opened()
    held = one.open(LARGE_REF)
    store_extent(held, LARGE, Extent(0, 40))
    writer = one.open(REF).writer(REF.whole)
    assert writer is not None
    assert one.shared is not None
    for path in [*one.shared.path.rglob("*"), one.shared.path]:
        os.utime(path, (0, 0))
    other.books._sweep.make_room(0, other.books.limits())  # type: ignore[attr-defined]  # its own
    assert not one.shared.path.exists()

    writer.write(memoryview(CONTENT))
    with pytest.raises(CacheError):
        writer.commit()
    fill(one.open(REF), CONTENT, REF.whole)
    assert path_of(root, REF).read_bytes() == CONTENT
    held.discard(Extent(0, 40))
    fill(one.open(LARGE_REF), LARGE, LARGE_REF.whole)
    assert path_of(root, LARGE_REF).read_bytes() == LARGE


def test_the_mode_is_kept_for_all_who_open_the_directory(
    root: Path, opened: Callable[..., OpenCache]
) -> None:
    assert opened().cache.shared is None
    first = opened(shared=True)
    assert opened().cache.shared is not None
    with pytest.raises(CacheError, match="is shared with"):
        opened(shared=False)
    first.cache.close()
    for member in find_members(root):
        for path in (root / SHARED / member.name).iterdir():
            os.utime(path, (0, 0))
    assert opened(shared=False).cache.shared is None
    assert not is_shared_directory(root)
    assert opened().cache.shared is None


@pytest.mark.parametrize("first_shared", [False, True])
def test_a_cache_of_one_mode_is_right_in_the_other(
    root: Path, opened: Callable[..., OpenCache], first_shared: bool
) -> None:
    content = make_content(3 * BLOCK)
    ref, later = make_ref(content), make_ref(content, "later.dcm", series=2)
    before = opened(shared=first_shared, cache_size="none", min_free="0")
    fill(before.cache.open(ref), content, ref.whole)
    before.cache.close()

    after = opened(shared=not first_shared, cache_size="none", min_free="0")
    assert after.cache.open(ref).read(ref.whole) == content
    fill(after.cache.open(later), content, later.whole)
    assert list(verify_cache(root, shared=after.cache.shared)) == []
    after.cache.close()

    again = opened(shared=first_shared, cache_size="none", min_free="0")
    held = {account.series: account.bytes for account in again.books.accounts()}
    assert held == on_disk(root)
    assert len(held) == 2


def test_the_limit_holds_for_all_processes(root: Path) -> None:
    limit = 40 * BLOCK
    ledgers = [quiet(root, limit) for _ in range(3)]
    refused = 0
    for number in range(30):
        try:
            store(root, ledgers[number % 3], name(number), 3 * BLOCK)  # type: ignore[arg-type]
        except CacheError:
            refused += 1
        assert sum(on_disk(root).values()) <= limit
    assert refused > 0
    assert sum(on_disk(root).values()) > limit // 2


def test_the_longest_unused_goes_and_what_is_used_or_pinned_stays(root: Path) -> None:
    ledger, other = quiet(root, 20 * BLOCK), quiet(root, 20 * BLOCK)
    for number in range(4):
        store(root, ledger, name(number), 3 * BLOCK)  # type: ignore[arg-type]
    ledger.pin(name(0))
    grow_old(root, *(name(number) for number in range(4)))
    other.hold(name(1))
    other.beat()

    store(root, ledger, name(9), 10 * BLOCK)  # type: ignore[arg-type]

    assert {name(0), name(1), name(9)} <= set(on_disk(root))
    assert not {name(2), name(3)} & set(on_disk(root))
    assert not (root / SHARED / "lease").exists()


def test_nothing_is_stored_while_everything_is_in_use(root: Path) -> None:
    ledger = quiet(root, 10 * BLOCK)
    store(root, ledger, name(1), 8 * BLOCK)  # type: ignore[arg-type]
    with pytest.raises(CacheError, match="in use"):
        ledger.reserve(4 * BLOCK)
    assert set(on_disk(root)) == {name(1)}


def test_what_the_dead_had_taken_comes_back(root: Path) -> None:
    limit = 10 * BLOCK
    dead, ledger = quiet(root, limit), quiet(root, limit)
    dead.reserve(6 * BLOCK)
    with pytest.raises(CacheError):
        ledger.reserve(6 * BLOCK)
    member = next(each for each in find_members(root) if each.taken_bytes)
    os.utime(root / SHARED / member.name / "alive", (0, 0))
    quiet(root, limit).reserve(6 * BLOCK)


def test_a_census_that_is_lost_or_damaged_is_made_anew(root: Path) -> None:
    ledger = quiet(root, 100 * BLOCK)
    store(root, ledger, name(1), 3 * BLOCK)  # type: ignore[arg-type]
    census = root / SHARED / "census"
    for content in (None, b"", b"[]", b'{"bytes": "x"}', b"\xff" * 100):
        census.unlink(missing_ok=True)
        if content is not None:
            census.write_bytes(content)
        assert read_census(root) is None
        quiet(root, 100 * BLOCK).reserve(BLOCK)
        found = read_census(root)
        assert found is not None
        assert found.size_bytes >= 3 * BLOCK


def test_a_lease_is_held_by_one_and_taken_over_when_it_is_stale(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "lease"
    one = Lease(path, "one", now_s=clock, stale_s=100)
    other = Lease(path, "other", now_s=clock, stale_s=100)
    assert one.take()
    os.utime(path, (clock.now_s, clock.now_s))
    assert not other.take()
    clock.now_s += 50
    assert one.renew()
    os.utime(path, (clock.now_s, clock.now_s))
    clock.now_s += 99
    assert not other.take()
    clock.now_s += 1
    assert other.take()
    clock.now_s += 50
    assert not one.renew()
    one.give_up()
    assert path.read_bytes() == b"other"
    assert other.renew()
    other.give_up()
    assert list(tmp_path.iterdir()) == []


def test_the_last_count_and_what_was_taken_since_make_up_the_whole() -> None:
    counted, new = Member("a", 70, 50, 0.0), Member("b", 7, 0, 0.0)
    assert Census(100, {"a": 60, "gone": 9}).with_all([counted, new]) == 100 + 10 + 7


def test_file_systems_are_told_apart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    table = root / "mountinfo"
    table.write_text(
        "1 1 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {root}/a\\040b rw shared:3 - nfs4 server:/x rw\n"
        f"3 1 0:6 / {root}/a\\040b/local rw - xfs /dev/sdb rw\n"
    )
    monkeypatch.setattr("idcfs.mount_table._TABLE", table)
    assert file_system_type(root) == "ext4"
    assert file_system_type(root / "a b" / "cache") == "nfs4"
    assert file_system_type(root / "a b" / "local") == "xfs"
    assert file_system_type(root / "a b2") == "ext4"


def test_a_cache_on_nfs_that_is_not_shared_is_warned_of(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("idcfs.cache.opening.file_system_type", lambda path: "nfs4")
    open_cache(root).cache.close()
    (line,) = caplog.messages
    assert "--cache-shared" in line
    assert str(root) in line
    caplog.clear()
    open_cache(root, shared=True).cache.close()
    assert caplog.messages == []


@pytest.mark.usefixtures("small_units")
def test_parts_of_closed_objects_are_kept_within_bounds(root: Path) -> None:
    DiskCache(root, shared=SharedScratch(root)).close()
    ledger = quiet(root, 64 * BLOCK)
    cache = DiskCache(root, ledger=ledger, shared=ledger._scratch)
    refs = [make_ref(LARGE, series=number) for number in range(8)]
    for age, ref in enumerate(refs):
        held = cache.open(ref)
        store_extent(held, LARGE, Extent(0, 40))
        place = ledger._scratch.parts / ref.series
        os.utime(place, (age, age))
        if ref is not refs[0]:
            held.close()
    occupied = occupied_bytes(ledger._scratch.parts)
    allowed = 64 * BLOCK // 8
    assert occupied > allowed

    ledger.beat()

    assert 0 < occupied_bytes(ledger._scratch.parts) <= allowed
    kept = [ref for ref in refs if (ledger._scratch.parts / ref.series).exists()]
    assert refs[0] in kept
    assert refs[-1] in kept
    assert not cache.open(refs[0]).missing(Extent(0, 40))
    assert cache.open(refs[1]).missing(Extent(0, 40))
    cache.close()


def test_an_idle_process_gives_its_room_back(root: Path) -> None:
    ledger = quiet(root, 64 * 100 * BLOCK)
    store(root, ledger, name(1), BLOCK)  # type: ignore[arg-type]
    ledger.beat()
    ledger.beat()
    (member,) = find_members(root)
    assert member.taken_bytes == member.written_bytes == BLOCK


@pytest.mark.usefixtures("small_units")
def test_closing_does_not_wait_until_all_of_a_large_object_is_synced(
    root: Path, opened: Callable[..., OpenCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(shared=True, cache_size="none").cache
    held = cache.open(LARGE_REF)
    syncing, go_on = threading.Event(), threading.Event()

    def flush(self: SharedScratch, fd: int) -> None:
        syncing.set()
        go_on.wait(10)

    monkeypatch.setattr(SharedScratch, "flush", flush)
    storing = threading.Thread(target=store_extent, args=(held, LARGE, LARGE_REF.whole))
    storing.start()
    try:
        assert syncing.wait(10)
        closing = threading.Thread(target=held.close)
        closing.start()
        closing.join(1)
        assert not closing.is_alive()
    finally:
        go_on.set()
        storing.join()
    assert path_of(root, LARGE_REF).read_bytes() == LARGE


def test_a_sign_of_life_does_not_wait_for_a_file(root: Path) -> None:
    scratch = SharedScratch(root)
    scratch.prepare()
    told = threading.Thread(target=scratch.state, args=(2, 1), daemon=True)
    with scratch.locked(0):
        told.start()
        told.join(1)
        assert [(each.taken_bytes, each.written_bytes) for each in find_members(root)] == [(2, 1)]


def test_an_old_sign_of_life_never_takes_the_place_of_a_newer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = quiet(root, 64 << 20)
    ledger.reserve(1)
    taken = [each.taken_bytes for each in find_members(root)]
    state, beating, go_on = ledger._scratch.state, threading.Event(), threading.Event()

    def stand_still(taken_bytes: int, written_bytes: int) -> None:
        if threading.current_thread().name == "beating":
            beating.set()
            go_on.wait(10)
        state(taken_bytes, written_bytes)

    monkeypatch.setattr(ledger._scratch, "state", stand_still)
    beat = threading.Thread(target=ledger.beat, name="beating")
    beat.start()
    assert beating.wait(10)
    ask = threading.Thread(target=ledger.reserve, args=(2 << 20,))
    ask.start()
    ask.join(0.3)
    go_on.set()
    beat.join()
    ask.join()
    assert [each.taken_bytes for each in find_members(root)] > taken
