"""Single flight, apart from what flies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from idcfs.errors import StoreError, StoreUnavailableError
from idcfs.fetch.flights import Flights
from tests.support.stores import in_trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Job:
    """A job that ends when told, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.end = trio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.runs += 1
        try:
            await self.end.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.runs


class _Awkward(Exception):
    """Cannot be made from its `args`, as many of botocore's."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


@in_trio
async def test_all_who_wait_share_one_job() -> None:
    job, results = Job(), list[int]()
    async with trio.open_nursery() as services:
        flights: Flights[str, int] = Flights(services)

        async def wait() -> None:
            results.append(await flights.run("key", job))

        async with trio.open_nursery() as waiting:
            for _ in range(20):
                waiting.start_soon(wait)
            await wait_all_tasks_blocked()
            assert len(flights) == 1
            job.end.set()
        assert results == [1] * 20
        assert len(flights) == 0
        assert await flights.run("key", job) == 2


@in_trio
async def test_keys_fly_apart() -> None:
    jobs = [Job(), Job()]
    async with trio.open_nursery() as services:
        flights: Flights[int, int] = Flights(services)
        async with trio.open_nursery() as waiting:
            for number, job in enumerate(jobs):
                waiting.start_soon(flights.run, number, job)
            await wait_all_tasks_blocked()
            assert [job.runs for job in jobs] == [1, 1]
            for job in jobs:
                job.end.set()


@in_trio
async def test_one_cancelled_waiter_leaves_the_others() -> None:
    job, results = Job(), list[int]()
    async with trio.open_nursery() as services:
        flights: Flights[str, int] = Flights(services)
        scopes = [trio.CancelScope() for _ in range(3)]

        async def wait(scope: trio.CancelScope) -> None:
            with scope:
                results.append(await flights.run("key", job))

        async with trio.open_nursery() as waiting:
            for scope in scopes:
                waiting.start_soon(wait, scope)
            await wait_all_tasks_blocked()
            scopes[0].cancel()
            scopes[1].cancel()
            await wait_all_tasks_blocked()
            assert job.cancelled == 0
            job.end.set()
    assert results == [1]


@in_trio
async def test_the_last_cancelled_waiter_cancels_the_job_and_the_next_starts_anew() -> None:
    job = Job()
    async with trio.open_nursery() as services:
        flights: Flights[str, int] = Flights(services)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(flights.run, "key", job)
            await wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        assert len(flights) == 0
        await wait_all_tasks_blocked()
        assert (job.runs, job.cancelled) == (1, 1)
        job.end.set()
        assert await flights.run("key", job) == 2


@in_trio
async def test_a_job_that_is_slow_to_be_cancelled_does_not_take_new_waiters() -> None:
    slow, quick = Job(), Job()
    quick.end.set()

    async def job() -> int:
        with trio.CancelScope(shield=True):
            await slow()
        await trio.lowlevel.checkpoint()
        return 0

    async with trio.open_nursery() as services:
        flights: Flights[str, int] = Flights(services)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(flights.run, "key", job)
            await wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        assert await flights.run("key", quick) == 1
        slow.end.set()
        await wait_all_tasks_blocked()
        assert len(flights) == 0


@pytest.mark.parametrize("error", [StoreError("no"), _Awkward(code=3), OSError(5, "io", "file")])
def test_an_error_reaches_every_waiter_and_not_the_nursery(error: Exception) -> None:
    @in_trio
    async def run() -> None:
        job, errors = Job(), list[Exception]()
        job.error = error
        async with trio.open_nursery() as services:
            flights: Flights[str, int] = Flights(services)

            async def wait() -> None:
                try:
                    await flights.run("key", job)
                except type(error) as exc:
                    errors.append(exc)

            async with trio.open_nursery() as waiting:
                for _ in range(5):
                    waiting.start_soon(wait)
                await wait_all_tasks_blocked()
                job.end.set()
            assert [str(each) for each in errors] == [str(error)] * 5
            assert isinstance(error, _Awkward) or len({id(each) for each in errors}) == 5
            job.error = None
            assert await flights.run("key", job) == 2

    run()


async def sleep_in_a_nursery() -> int:
    async with trio.open_nursery() as inner:
        inner.start_soon(trio.sleep_forever)
        inner.start_soon(trio.sleep_forever)
    return 1


@pytest.mark.parametrize("job", [Job(), sleep_in_a_nursery])
@in_trio
async def test_the_end_of_the_services_is_an_error_of_those_who_wait(
    job: Callable[[], Awaitable[int]],
) -> None:
    async with trio.open_nursery() as services:
        flights: Flights[str, int] = Flights(services)

        async def stop() -> None:
            await wait_all_tasks_blocked()
            services.cancel_scope.cancel()

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(stop)
                with pytest.raises(StoreUnavailableError, match="shutting down"):
                    await flights.run("key", job)
            with pytest.raises(StoreUnavailableError, match="shutting down"):
                await flights.run("other", Job())


@in_trio
async def test_no_flight_is_left_behind_when_the_services_have_ended() -> None:
    async with trio.open_nursery() as services:
        flights: Flights[str, int] = Flights(services)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await flights.run("key", Job())
    assert len(flights) == 0
