"""Waiting for a store that is out of reach: how long, how often, and what is said of it."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.errors import StoreUnavailableError
from idcfs.prefetch.metered import MeteredStore
from idcfs.prefetch.patience import Patience, PatiencePolicy
from tests.support.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def no_network() -> StoreUnavailableError:
    error = StoreUnavailableError("no network")
    error.no_connection = True
    return error


def by_jumps(test: Callable[[Patience, MeteredStore], Awaitable[None]]) -> None:
    """Run a test whose clock jumps ahead whenever all of it waits."""

    async def run() -> None:
        meter = MeteredStore(MemoryStore())
        await test(Patience(meter, PatiencePolicy(), clock=trio.current_time), meter)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_pauses_grow_and_are_never_quite_the_same() -> None:
    async def test(patience: Patience, meter: MeteredStore) -> None:
        tried: list[list[float]] = [[] for _ in range(8)]
        meter.moved_at_s = gone_s = trio.current_time()
        await trio.sleep(1)

        async def insist(times: list[float]) -> None:
            async def attempt() -> None:
                times.append(trio.current_time())
                raise no_network()

            with pytest.raises(StoreUnavailableError):
                await patience.insist(attempt)

        async with trio.open_nursery() as nursery:
            for times in tried:
                nursery.start_soon(insist, times)
        for times in tried:
            pauses = [later - time for time, later in pairwise(times)]
            for number, pause_s in enumerate(pauses):
                longest_s = min(5.0 * 2**number, 60.0)
                assert longest_s / 2 <= pause_s <= longest_s
            assert 1800 <= times[-1] - gone_s <= 1860
        assert len({times[1] for times in tried}) == len(tried)

    by_jumps(test)


def test_a_store_that_never_gave_anything_is_not_waited_for() -> None:
    async def test(patience: Patience, meter: MeteredStore) -> None:
        tried = 0

        async def attempt() -> None:
            nonlocal tried
            tried += 1
            raise StoreUnavailableError("no such host")

        with pytest.raises(StoreUnavailableError):
            await patience.insist(attempt)
        assert tried == 1

    by_jumps(test)


def test_silence_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def test(patience: Patience, meter: MeteredStore) -> None:
        async def watch_for(seconds: int) -> None:
            for _ in range(seconds):
                patience.watch()
                await trio.sleep(1)

        await watch_for(300)
        assert not caplog.records  # nothing was asked for: files are being read, perhaps
        meter.requests_under_way = 2
        await watch_for(300)
        assert caplog.messages == ["nothing has come from the store for 60 s; trying on"]
        meter.moved_at_s = trio.current_time()
        await watch_for(59)
        assert len(caplog.messages) == 1
        await watch_for(1)
        meter.requests_under_way = 0

        async def attempt() -> None:
            if trio.current_time() - (meter.moved_at_s or 0) < 300:
                raise no_network()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(patience.insist, attempt)
            nursery.start_soon(watch_for, 600)
        assert len(caplog.messages) == 2
        assert caplog.messages[1].endswith("; trying on (no network)")

    by_jumps(test)
