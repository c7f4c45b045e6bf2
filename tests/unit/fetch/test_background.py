"""What is fetched ahead of readers fails for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.errors import StoreUnavailableError
from idcfs.fetch.background import Background
from tests.support.stores import in_trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Jobs:
    """A source of jobs that count themselves and then raise."""

    def __init__(self, error: Exception | None, count: int) -> None:
        self.error = error
        self.left = count
        self.done = 0

    def take(self) -> Callable[[], Awaitable[None]] | None:
        if not self.left:
            return None
        self.left -= 1
        return self._work

    async def _work(self) -> None:
        await trio.lowlevel.checkpoint()
        self.done += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), TypeError("a bug")])
def test_a_job_that_fails_ends_its_source_and_nothing_else(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing, fine = Jobs(error, 5), Jobs(None, 5)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            background = Background(nursery, slots=1)
            background.wake(failing)
            background.wake(fine)

    trio.run(run)
    assert (failing.done, fine.done) == (1, 5)
    assert ("a bug in idcfs" in caplog.text) == isinstance(error, TypeError)


class Patient(Jobs):
    """A source whose jobs wait until they are let go on."""

    def __init__(self, count: int) -> None:
        super().__init__(None, count)
        self.go_on = trio.Event()
        self.under_way = 0
        self.most = 0

    async def _work(self) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.go_on.wait()
            await super()._work()
        finally:
            self.under_way -= 1


@in_trio
async def test_slots_are_shared_by_turns_and_never_exceeded() -> None:
    one, other = Patient(10), Patient(10)
    async with trio.open_nursery() as nursery:
        background = Background(nursery, slots=4)
        background.wake(one)
        background.wake(other)
        await trio.testing.wait_all_tasks_blocked()
        assert (one.under_way, other.under_way) == (4, 0)  # asked when a slot is free
        one.go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert one.under_way + other.under_way == 4
        other.go_on.set()
    assert (one.done, other.done) == (10, 10)
    assert one.most == other.most == 4


@pytest.mark.parametrize("begun", [True, False])
@in_trio
async def test_a_source_that_is_dropped_has_its_jobs_cancelled(begun: bool) -> None:
    source, other = Patient(10), Patient(3)
    async with trio.open_nursery() as nursery:
        background = Background(nursery, slots=2)
        background.wake(source)
        if begun:
            await trio.testing.wait_all_tasks_blocked()
        background.drop(source)
        source.go_on.set()
        other.go_on.set()
        background.wake(other)
    assert source.done == 0
    assert source.left == 8
    assert other.done == 3
