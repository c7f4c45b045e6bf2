"""The books of a cache: its limit, who must go, who may stay, and what a death leaves."""

from __future__ import annotations

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import recount, refusal
from idcfs.cache.accounts import Accounts
from idcfs.cache.disk_ledger import DiskLedger
from idcfs.cache.inventory import series_on_disk
from idcfs.cache.limits import measure_disk
from idcfs.errors import CacheError
from tests.support.mounting import wait_until
from tests.unit.cache.ledgers import BLOCK, Clock, die, in_books, name, on_disk, quiet, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.model import SeriesUUID

HOUR_S = 3600.0


def test_what_is_stored_is_in_the_books_of_every_process(root: Path) -> None:
    first, second = quiet(root, None), quiet(root, None)
    occupied = store(root, first, name(1), 10_000)
    first.flush()
    store(root, second, name(1), 5000, file="b.dcm")
    second.flush()
    assert in_books(first) == in_books(second) == on_disk(root) == {name(1): occupied + 2 * BLOCK}
    assert first.totals().files == 2
    first.close()
    second.close()


def test_dropped_bytes_leave_the_books(root: Path) -> None:
    ledger = quiet(root, None)
    occupied = store(root, ledger, name(1), 10_000)
    ledger.dropped(name(1), occupied, 1)
    ledger.flush()
    assert ledger.totals().bytes == 0
    ledger.close()


def test_what_is_dropped_before_it_was_told_of_is_counted(root: Path) -> None:
    storing, dropping = quiet(root, None), quiet(root, None)
    occupied = store(root, storing, name(1), 10_000)
    (root / "objects" / name(1)[:2] / name(1) / "a.dcm").unlink()
    dropping.dropped(name(1), occupied, 1)
    dropping.flush()
    storing.flush()
    dropping.flush()
    assert in_books(dropping) == on_disk(root) == {}
    storing.close()
    dropping.close()


def test_hits_are_what_was_opened_and_need_not_be_fetched(root: Path) -> None:
    ledger = quiet(root, None)
    assert ledger.hits().ratio is None
    store(root, ledger, name(1), 10_000)
    ledger.flush()
    ledger.close()
    ledger = quiet(root, None)
    for _ in range(3):
        ledger.touch(name(1))
    assert (ledger.hits().opened, ledger.hits().stored, ledger.hits().ratio) == (4, 1, 0.75)
    ledger.close()


def test_the_longest_unused_goes_first(root: Path) -> None:
    clock = Clock()
    ledger = quiet(root, 20 * BLOCK, clock=clock)
    for number in range(4):
        clock.now_s += 1
        store(root, ledger, name(number), 4 * BLOCK)
    clock.now_s += 1
    ledger.touch(name(0))
    store(root, ledger, name(9), 4 * BLOCK)
    assert set(on_disk(root)) == {name(0), name(2), name(3), name(9)}
    ledger.close()


def test_a_scan_leaves_what_is_used_every_day(root: Path) -> None:
    clock = Clock()
    ledger = quiet(root, 100 * BLOCK, clock=clock)
    daily = [name(number) for number in range(5)]
    for series in daily:
        store(root, ledger, series, 4 * BLOCK)
    for _ in range(3):
        clock.now_s += 24 * HOUR_S
        for series in daily:
            ledger.touch(series)
        ledger.flush()
    for number in range(100, 350):
        clock.now_s += 1
        store(root, ledger, name(number), 4 * BLOCK)
    assert set(daily) <= set(on_disk(root))
    assert sum(on_disk(root).values()) <= 100 * BLOCK
    ledger.close()


def test_a_second_use_in_the_same_sitting_promotes_nothing(root: Path) -> None:
    clock = Clock()
    ledger = quiet(root, None, clock=clock)
    store(root, ledger, name(1), BLOCK)
    clock.now_s += 60
    ledger.touch(name(1))
    assert [account.protected for account in ledger.accounts()] == [False]
    clock.now_s += HOUR_S
    ledger.touch(name(1))
    assert [account.protected for account in ledger.accounts()] == [True]
    ledger.close()


def test_not_everything_can_be_protected(root: Path) -> None:
    clock = Clock()
    ledger = quiet(root, 100 * BLOCK, clock=clock)
    for number in range(20):
        store(root, ledger, name(number), 4 * BLOCK)
    for number in range(20):
        clock.now_s += HOUR_S
        ledger.touch(name(number))
    ledger.flush()
    ledger.flush()
    protected = [account for account in ledger.accounts() if account.protected]
    assert sum(account.bytes for account in protected) <= 80 * BLOCK
    ledger.close()


def test_pinned_series_stay_and_the_rest_goes(root: Path) -> None:
    ledger = quiet(root, 20 * BLOCK)
    store(root, ledger, name(1), 4 * BLOCK)
    assert ledger.pin(name(1))
    assert not ledger.pin(name(1))
    for number in range(10, 30):
        store(root, ledger, name(number), 4 * BLOCK)
    assert name(1) in on_disk(root)
    with pytest.raises(CacheError, match="1 series are pinned"):
        ledger.reserve(18 * BLOCK)
    assert ledger.pins.remove(name(1))
    assert not ledger.pins.remove(name(1))
    ledger.reserve(18 * BLOCK).release()
    assert not on_disk(root)
    ledger.close()


def test_what_another_process_has_open_stays(root: Path) -> None:
    writer, reader = quiet(root, 20 * BLOCK), quiet(root, 20 * BLOCK)
    store(root, writer, name(1), 4 * BLOCK)
    writer.flush()
    reader.hold(name(1))
    reader.hold(name(1))
    with pytest.raises(CacheError, match="1 series are in use"):
        writer.reserve(18 * BLOCK)
    reader.let_go(name(1))
    with pytest.raises(CacheError, match="1 series are in use"):
        writer.reserve(18 * BLOCK)
    reader.let_go(name(1))
    writer.reserve(18 * BLOCK).release()
    reader.close()
    writer.close()


def test_who_does_not_wait_is_told_at_once_that_there_is_no_room(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(refusal, "time", SimpleNamespace(monotonic=lambda: now_s))
    ledger = quiet(root, 20 * BLOCK, patience_s=600.0)
    store(root, ledger, name(1), 4 * BLOCK)
    ledger.hold(name(1))
    with pytest.raises(CacheError, match="1 series are in use"):
        ledger.reserve(18 * BLOCK, waits=False)
    ledger.let_go(name(1))
    # For a moment it is not looked for again, unless less will do.
    with pytest.raises(CacheError, match="1 series are in use"):
        ledger.reserve(18 * BLOCK, waits=False)
    ledger.reserve(10 * BLOCK, waits=False).release()
    now_s += 1
    ledger.reserve(18 * BLOCK, waits=False).release()
    ledger.close()


def test_who_waits_looks_for_room_though_it_was_refused_just_now(root: Path) -> None:
    ledger = quiet(root, 20 * BLOCK)
    store(root, ledger, name(1), 4 * BLOCK)
    ledger.hold(name(1))
    with pytest.raises(CacheError):
        ledger.reserve(18 * BLOCK, waits=False)
    ledger.let_go(name(1))
    ledger.reserve(18 * BLOCK).release()
    ledger.close()


def test_who_does_not_wait_is_told_at_once_that_a_series_is_being_removed(root: Path) -> None:
    remover, reader = quiet(root, None), quiet(root, None)
    store(root, remover, name(1), BLOCK)
    remover.flush()
    with remover._uses.locks.excluding(name(1)) as excluded:
        assert excluded
        with pytest.raises(CacheError, match=r"is being removed from the cache$"):
            reader.hold(name(1), waits=False)
    reader.hold(name(1), waits=False)
    with remover._uses.locks.excluding(name(1)) as excluded:
        assert not excluded
    reader.close()
    remover.close()


def test_the_dead_hold_nothing(root: Path) -> None:
    writer, reader = quiet(root, 20 * BLOCK), quiet(root, 20 * BLOCK)
    store(root, writer, name(1), 4 * BLOCK)
    reader.hold(name(1))
    die(reader)
    writer.flush()
    writer.reserve(18 * BLOCK).release()
    writer.close()


def test_what_the_dead_had_reserved_comes_back_and_what_they_stored_is_counted(root: Path) -> None:
    victim, other = quiet(root, 40 * BLOCK), quiet(root, 40 * BLOCK)
    victim.reserve(15 * BLOCK)
    occupied = store(root, victim, name(1), 4 * BLOCK)
    assert other.totals().bytes == 0
    with pytest.raises(CacheError):
        other.reserve(30 * BLOCK)
    die(victim)
    other.reserve(30 * BLOCK).release()
    assert in_books(other) == {name(1): occupied}
    other.close()


def test_what_the_dead_stored_in_a_series_in_use_takes_room_at_once(root: Path) -> None:
    victim, reader, other = (quiet(root, 40 * BLOCK) for _ in range(3))
    reader.hold(name(1))
    occupied = store(root, victim, name(1), 12 * BLOCK)
    other.flush()
    assert in_books(other) == {}, "nobody has told of it yet"
    die(victim)
    with pytest.raises(CacheError, match="1 series are in use"):
        other.reserve(30 * BLOCK)
    assert in_books(other) == {name(1): occupied}
    other.reserve(26 * BLOCK).release()
    reader.let_go(name(1))
    other.reserve(30 * BLOCK).release()
    assert not on_disk(root)
    reader.close()
    other.close()


def test_what_was_dropped_before_a_death_was_cleared_up_is_not_taken_off_twice(root: Path) -> None:
    victim, user, other = (quiet(root, None) for _ in range(3))
    occupied = store(root, user, name(1), 10 * BLOCK)
    user.flush()
    left = store(root, victim, name(1), 3 * BLOCK, file="b.dcm")
    (root / "objects" / name(1)[:2] / name(1) / "a.dcm").unlink()
    user.dropped(name(1), occupied, 1)
    die(victim)
    other.flush()
    user.flush()
    assert in_books(other) == on_disk(root) == {name(1): left}
    user.close()
    other.close()


def test_series_that_stay_in_use_do_not_keep_others_from_being_counted(root: Path) -> None:
    victim, reader, other = (quiet(root, None) for _ in range(3))
    for number in range(40):
        reader.hold(name(number))
        store(root, victim, name(number), BLOCK)
    die(victim)
    other.flush()
    path = root / "objects" / name(39)[:2] / name(39) / "a.dcm"
    path.unlink()
    reader.dropped(name(39), BLOCK, 1)
    reader.flush()
    reader.let_go(name(39))
    for _ in range(5):
        other.flush()
    assert in_books(other) == on_disk(root)
    reader.close()
    other.close()


def test_a_file_that_a_dead_process_never_counted_is_counted(root: Path) -> None:
    victim = quiet(root, None)
    victim.hold(name(3))
    path = root / "objects" / name(3)[:2] / name(3) / "a.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(10 * BLOCK))
    victim.flush()
    die(victim)
    after = quiet(root, None)
    assert in_books(after) == {name(3): 10 * BLOCK}
    after.close()


def test_what_the_dead_were_writing_is_removed_before_its_room_is_given_out(root: Path) -> None:
    victim = quiet(root, None)
    victim.reserve(BLOCK)
    unfinished = root / "scratch" / "of-the-dead" / "0"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(bytes(BLOCK))
    die(victim)
    after = quiet(root, None)
    after.flush()
    assert not unfinished.parent.exists()
    after.close()


def test_after_a_power_cut_everything_is_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = quiet(root, None)
    store(root, victim, name(1), BLOCK)
    victim.flush()
    die(victim)
    path = root / "objects" / name(3)[:2] / name(3) / "a.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(10 * BLOCK))
    monkeypatch.setattr("idcfs.cache.recount.boot_id", lambda: "another")
    after = quiet(root, None)
    assert in_books(after) == on_disk(root)
    after.close()


def test_a_series_in_use_while_it_is_counted_is_counted_again(root: Path) -> None:
    writer, other = quiet(root, None), quiet(root, None)
    occupied = store(root, writer, name(1), 4 * BLOCK)
    (root / "ledger" / "accounts.sqlite").unlink(missing_ok=True)
    assert in_books(other) == {name(1): occupied}, "counted, while the writer has yet to tell"
    writer.flush()
    other.flush()
    assert in_books(writer) == in_books(other) == {name(1): occupied}
    writer.close()
    other.close()


def test_room_is_given_back_when_it_is_not_used(root: Path) -> None:
    idle, other = quiet(root, 640 * BLOCK), quiet(root, 640 * BLOCK)
    idle.reserve(BLOCK).release()
    with pytest.raises(CacheError):
        other.reserve(632 * BLOCK)
    idle.flush()
    idle.flush()
    other.reserve(632 * BLOCK).release()
    idle.close()
    other.close()


def test_a_reservation_ends_once(root: Path) -> None:
    ledger = quiet(root, None)
    reservation = ledger.reserve(10)
    reservation.settle(name(1), BLOCK, 1)
    reservation.release()
    reservation.settle(name(1), BLOCK, 1)
    assert ledger.totals().bytes == BLOCK
    ledger.close()


def test_the_books_follow_by_themselves(root: Path) -> None:
    writer = DiskLedger(root, cache_size="none", min_free="0", flush_s=0.01)
    other = quiet(root, None)
    occupied = store(root, writer, name(1), 10_000)
    wait_until(lambda: in_books(other) == {name(1): occupied}, "the books follow")
    writer.close()
    other.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"nonsense" * 4096),
        lambda path: os.truncate(path, 5000),
        lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * path.stat().st_size),
    ],
)
@pytest.mark.parametrize("closed", [False, True])
def test_lost_or_damaged_books_are_made_anew_from_the_files(
    root: Path, damage: object, closed: bool
) -> None:
    assert callable(damage)
    first = quiet(root, None)
    for number in range(200):
        store(root, first, name(number), BLOCK)
    first.pin(name(1))
    first.flush()
    if closed:
        first.close()
    damage(root / "ledger" / "accounts.sqlite")
    ledgers = [quiet(root, None) for _ in range(2)]
    for number, ledger in enumerate(ledgers if closed else [*ledgers, first]):
        for _ in range(3):
            try:
                ledger.flush()
                break
            except CacheError:
                continue  # noticed in the middle: the next transaction mends it
        assert in_books(ledger) == on_disk(root)
        assert name(1) in ledger.pins
        store(root, ledger, name(7), BLOCK, file=f"{number}.dcm")
        ledger.close()


def hold_up_counting(
    monkeypatch: pytest.MonkeyPatch, *, after: int
) -> tuple[threading.Event, threading.Event]:
    """Have the count of all series stop after some; return that it has, and what lets it go on."""
    stopped, may_go_on = threading.Event(), threading.Event()

    def list_slowly(root: Path) -> Iterator[tuple[SeriesUUID, int, int]]:
        for number, each in enumerate([*series_on_disk(root), None]):
            if number == after:
                stopped.set()
                assert may_go_on.wait(20)
            if each is not None:
                yield each

    monkeypatch.setattr(recount, "series_on_disk", list_slowly)
    return stopped, may_go_on


def test_nobody_need_wait_while_lost_books_are_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = quiet(root, None)
    occupied = store(root, former, name(1), 10_000)
    former.close()
    (root / "ledger" / "accounts.sqlite").unlink()
    stopped, may_go_on = hold_up_counting(monkeypatch, after=1)
    ledger = quiet(root, None, flush_s=0.001, books_patience_s=0.01)
    ledger.prepare()
    assert stopped.wait(20)
    with pytest.raises(CacheError, match="made anew"):
        ledger.reserve(BLOCK)
    may_go_on.set()
    assert ledger.totals().bytes == occupied
    ledger.reserve(BLOCK).release()
    ledger.close()


def test_the_first_books_of_an_empty_cache_are_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk may take seconds to have them: there is nothing to count, and no warning."""
    stopped, may_go_on = hold_up_counting(monkeypatch, after=0)
    ledger = quiet(root, None, flush_s=0.001, books_patience_s=0.001)
    ledger.prepare()
    assert stopped.wait(20)
    with ThreadPoolExecutor(1) as pool:
        reserving = pool.submit(ledger.reserve, BLOCK)
        with pytest.raises(TimeoutError):
            reserving.result(timeout=0.05)
        may_go_on.set()
        reserving.result(timeout=20).release()
    ledger.close()


def test_who_is_hurried_waits_while_others_make_room(root: Path) -> None:
    """Nobody counts everything: it will not take long."""
    ledger = quiet(root, None, books_patience_s=0.001)
    ledger.flush()
    ledger._books.acquire()
    with ThreadPoolExecutor(1) as pool:
        reserving = pool.submit(ledger.reserve, BLOCK)
        with pytest.raises(TimeoutError):
            reserving.result(timeout=0.05)
        ledger._books.release()
        reserving.result(timeout=20).release()
    ledger.close()


def test_several_make_lost_books_anew_at_once(root: Path) -> None:
    ledgers = [quiet(root, None) for _ in range(6)]
    for number in range(300):
        store(root, ledgers[number % 6], name(number), BLOCK)
    (root / "ledger" / "accounts.sqlite").unlink(missing_ok=True)
    threads = [threading.Thread(target=ledger.flush) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        ledger.flush()
        ledger.flush()
    for _ in range(100):
        ledgers[0].flush()
    assert in_books(ledgers[0]) == on_disk(root)
    for ledger in ledgers:
        ledger.close()


def test_books_of_a_newer_idcfs_are_left_alone(root: Path) -> None:
    quiet(root, None).close()
    ledger = quiet(root, None)
    ledger.flush()
    ledger.close()
    with sqlite3.connect(root / "ledger" / "accounts.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    ledger = quiet(root, None)
    with pytest.raises(CacheError, match="newer idcfs"):
        ledger.reserve(1)
    ledger.close()


def test_drift_is_told_and_mended(root: Path) -> None:
    ledger = quiet(root, None)
    store(root, ledger, name(1), 4 * BLOCK)
    store(root, ledger, name(2), 4 * BLOCK)
    ledger.flush()
    (root / "objects" / name(1)[:2] / name(1) / "a.dcm").unlink()
    drift = ledger.recount()
    assert (drift.series, drift.bytes) == (1, -4 * BLOCK)
    assert in_books(ledger) == on_disk(root)
    ledger.close()


def test_the_free_space_is_kept(root: Path) -> None:
    root.mkdir(parents=True)
    disk = measure_disk(root)
    ledger = quiet(root, None, min_free=str(disk.free_bytes + (1 << 30)))
    with pytest.raises(CacheError, match="of the disk free"):
        ledger.reserve(1)
    ledger.close()


def test_an_object_larger_than_the_limit_is_refused_and_nothing_evicted(root: Path) -> None:
    ledger = quiet(root, 20 * BLOCK)
    store(root, ledger, name(1), BLOCK)
    with pytest.raises(CacheError, match="larger than the cache may get"):
        ledger.reserve(21 * BLOCK)
    assert name(1) in on_disk(root)
    ledger.close()


def test_a_directory_that_vanishes_is_made_anew(root: Path) -> None:
    ledger = quiet(root, None)
    store(root, ledger, name(1), BLOCK)
    ledger.hold(name(5))
    for path in (root / "ledger").rglob("*"):
        if path.is_file():
            path.unlink()
    store(root, ledger, name(2), BLOCK)
    ledger.flush()
    assert set(in_books(ledger)) == {name(1), name(2)}
    other = quiet(root, None)
    store(root, other, name(5), BLOCK)
    other.flush()
    assert other.evict([name(5)]).in_use == 1, "held across the loss"
    ledger.let_go(name(5))
    assert other.evict([name(5)]).series == 1
    ledger.close()
    other.close()


def test_without_books_nothing_is_stored_and_reading_goes_on(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "ledger").write_text("mine")
    ledger = quiet(root, None)
    ledger.hold(name(1))
    ledger.touch(name(1))
    with pytest.raises(CacheError, match="cannot keep books"):
        ledger.reserve(1)
    ledger.let_go(name(1))
    ledger.close()
    assert (root / "ledger").read_text() == "mine"


def test_a_closed_ledger_is_harmless(root: Path) -> None:
    ledger = quiet(root, None)
    reservation = ledger.reserve(1)
    ledger.hold(name(1))
    ledger.close()
    reservation.settle(name(1), BLOCK, 1)
    ledger.let_go(name(1))
    ledger.hold(name(2))
    ledger.touch(name(2))
    with pytest.raises(CacheError, match="has been closed"):
        ledger.reserve(1 << 40)
    ledger.close()


def test_the_log_of_the_books_takes_little_of_the_disk(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path, fill=lambda book: None)
    try:
        for number in range(600):
            with accounts.transaction() as book:
                book.add(name(number), 1000, 1, float(number))
        occupied_bytes = (tmp_path / "accounts.sqlite-wal").stat().st_size
        assert 0 < occupied_bytes < 1_000_000
    finally:
        accounts.close()
