"""How long bytes are looked for on the loop, and when that is left off."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.errors import CacheError
from idcfs.fetch.looking import Looks

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT = b"content"


class Disk:
    """Has the bytes after so many microseconds; each look takes ten on its clock."""

    def __init__(self) -> None:
        self.now_us = 0
        self.takes_us = 0
        self.looks = 0

    def clock(self) -> float:
        return self.now_us / 1e6

    def begin(self, takes_us: int) -> Callable[[], bytes | None]:
        """Return what looks whether the bytes of one read have come."""
        due_us = self.now_us + takes_us

        def look() -> bytes | None:
            self.looks += 1
            self.now_us += 10
            return CONTENT if self.now_us >= due_us else None

        return look


def found(disk: Disk, looks: Looks, takes_us: int) -> int:
    """Look for bytes; return how many looks there were, negative if they were not found."""
    before = disk.looks
    content = trio.run(looks.find, disk.begin(takes_us))
    assert content in (None, CONTENT)
    return disk.looks - before if content else before - disk.looks


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def looks(disk: Disk) -> Looks:
    return Looks(disk.clock)


def test_what_is_there_is_found_at_once(disk: Disk, looks: Looks) -> None:
    assert found(disk, looks, 0) == 1


def test_what_a_quick_disk_brings_is_found(disk: Disk, looks: Looks) -> None:
    assert [found(disk, looks, 100) for _ in range(1_000)] == [10] * 1_000


def test_what_takes_long_is_left_to_a_thread_in_time(disk: Disk, looks: Looks) -> None:
    assert found(disk, looks, 10_000) == -30
    assert disk.now_us == 300


def test_a_slow_disk_is_hardly_looked_at_any_more(disk: Disk, looks: Looks) -> None:
    for _ in range(16):
        assert found(disk, looks, 10_000) == -30
    later = [found(disk, looks, 10_000) for _ in range(640)]
    assert later.count(-30) == 10
    assert later.count(-1) == 630
    # What is in memory already, as after a fetch, is found nevertheless.
    assert found(disk, looks, 0) == 1


def test_it_is_tried_again_when_the_disk_is_quick_again(disk: Disk, looks: Looks) -> None:
    for _ in range(16):
        found(disk, looks, 10_000)
    tried = [found(disk, looks, 100) for _ in range(100)]
    first = tried.index(10)
    assert first < 64
    assert tried[first:] == [10] * (100 - first)


def test_a_disk_that_is_mostly_slow_is_given_up_for_all_the_quick_reads(
    disk: Disk, looks: Looks
) -> None:
    for number in range(100):
        found(disk, looks, 10_000 if number % 3 else 100)
    assert found(disk, looks, 10_000) == -1


def test_others_run_between_two_looks(disk: Disk, looks: Looks) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def look() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            assert await looks.find(disk.begin(200)) == CONTENT
            nursery.cancel_scope.cancel()

    trio.run(look)
    assert turns >= 18


def test_only_a_few_look_more_than_once_at_a_time() -> None:
    clock = itertools.count()
    looks = Looks(lambda: next(clock) * 10e-6)
    looked: Counter[int] = Counter()

    async def find(number: int) -> None:
        def look() -> None:
            looked[number] += 1

        assert await looks.find(look) is None

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(find, number)

    trio.run(run)
    assert len(looked) == 100
    assert sum(times > 1 for times in looked.values()) == 8


def test_damage_is_raised_and_counts_for_nothing(disk: Disk, looks: Looks) -> None:
    def look() -> bytes | None:
        raise CacheError("damaged")

    for _ in range(20):
        with pytest.raises(CacheError, match="damaged"):
            trio.run(looks.find, look)
    assert found(disk, looks, 100) == 10
