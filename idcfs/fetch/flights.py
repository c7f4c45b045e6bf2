"""Single flight: one task a key, however many ask for it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from idcfs.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class _Flight(Generic[V]):
    """One task under way and those who wait for it."""

    __slots__ = ("done", "error", "result", "scope", "waiters")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.waiters = 0
        self.result: V | None = None
        # Whatever ends the job before it has a result ends it because the nursery is cancelled.
        self.error: Exception | None = StoreUnavailableError("idcfs is shutting down")


class Flights(Generic[K, V]):
    """Runs jobs in a service nursery so that equal keys share one job.

    A job goes on as long as anybody waits for it; when its last waiter is
    cancelled, so is the job. A job's error reaches every waiter and never the
    nursery. All methods belong on the trio thread.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: K, job: Callable[[], Awaitable[V]]) -> V:
        """Return what `job` returns, or what a job already under way for `key` will.

        Raises the job's error, as an exception of the waiter's own.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight()
            self._nursery.start_soon(self._fly, key, flight, job)
            self._flights[key] = flight
        flight.waiters += 1
        try:
            await flight.done.wait()
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.done.is_set():
                # Nobody may join a job that is being cancelled: the next one starts anew.
                self._drop(key, flight)
                flight.scope.cancel()
        if flight.error is not None:
            # One exception raised in several tasks would mix up their tracebacks.
            raise _copy_of(flight.error) from flight.error
        return flight.result  # type: ignore[return-value]  # set whenever error is None

    async def _fly(self, key: K, flight: _Flight[V], job: Callable[[], Awaitable[V]]) -> None:
        try:
            with flight.scope:
                flight.result = await job()
                flight.error = None
        except Exception as exc:
            flight.error = exc
        finally:
            self._drop(key, flight)
            flight.done.set()

    def _drop(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _copy_of(error: Exception) -> Exception:
    try:
        return copy.copy(error)
    except Exception:  # one whose constructor takes other arguments than it keeps
        return error
