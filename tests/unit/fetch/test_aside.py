"""What is kept in memory since the cache cannot take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

from idcfs.fetch import aside
from idcfs.fetch.aside import Aside
from idcfs.fetch.units import Filled
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.fetch.aside import UnitsKey

UNIT = 100


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_MOST_BYTES", 10 * UNIT)
    monkeypatch.setattr(aside, "_AHEAD_BYTES", 4 * UNIT)


def key(number: int) -> UnitsKey:
    return make_ref(make_content(1), f"{number}.dcm"), Extent(0, UNIT), False


def in_trio(check: Callable[[Aside, MockClock], None]) -> None:
    clock = MockClock()

    async def run() -> None:
        check(Aside(), clock)

    trio.run(run, clock=clock)


FILLED = Filled(bytes(UNIT), "no room")


def test_what_comes_ahead_takes_room_until_it_is_read() -> None:
    def check(memory: Aside, clock: MockClock) -> None:
        with memory.coming(key(1)), memory.coming(key(2)):
            assert memory.room_bytes == 2 * UNIT
            memory.keep(key(1), FILLED, is_read=False)
        assert memory.room_bytes == 3 * UNIT
        assert memory.find(key(1), is_read=False) == FILLED
        assert memory.room_bytes == 3 * UNIT
        assert memory.find(key(1), is_read=True) == FILLED
        assert memory.room_bytes == 4 * UNIT
        assert memory.find(key(2), is_read=True) is None

    in_trio(check)


def test_what_nobody_reads_gives_its_room_back() -> None:
    def check(memory: Aside, clock: MockClock) -> None:
        for number in range(4):
            memory.keep(key(number), FILLED, is_read=False)
        assert memory.room_bytes == 0
        clock.jump(aside.KEPT_S + 1)
        assert memory.room_bytes == 4 * UNIT
        assert memory.find(key(1), is_read=True) is None

    in_trio(check)


def test_what_readers_waited_for_pushes_out_what_was_used_longest_ago() -> None:
    def check(memory: Aside, clock: MockClock) -> None:
        for number in range(12):
            memory.keep(key(number), FILLED, is_read=number >= 4)
        found = [memory.find(key(number), is_read=True) is not None for number in range(12)]
        assert found == [False] * 2 + [True] * 10
        assert memory.room_bytes == 4 * UNIT

    in_trio(check)
