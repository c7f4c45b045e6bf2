"""Runs what is fetched ahead of readers: a bounded number of jobs, which fail for nobody."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from idcfs.errors import IdcfsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Job = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Knows what should be fetched ahead."""

    def take(self) -> Job | None:
        """Return the next job, each once; None if there is none for now."""
        ...


class Background:
    """Runs the jobs of sources by turns, at most `slots` at once. On the trio thread.

    A source is asked when a slot is free, so that nothing is queued that may not be
    wanted any more. A job that fails ends its source's turn: whoever really reads will
    meet the error, and say so.
    """

    def __init__(self, nursery: trio.Nursery, *, slots: int) -> None:
        self._nursery = nursery
        self._slots = slots
        self._running = 0
        self._ready: dict[Source, None] = {}
        self._scopes: dict[Source, set[trio.CancelScope]] = {}

    def wake(self, source: Source) -> None:
        """Ask a source for jobs from now on, until it has none."""
        self._ready[source] = None
        self._pump()

    def drop(self, source: Source) -> None:
        """Ask a source no more, and cancel its jobs."""
        self._ready.pop(source, None)
        for scope in self._scopes.get(source, ()):
            scope.cancel()

    def _pump(self) -> None:
        while self._running < self._slots and (found := self._take()) is not None:
            self._running += 1
            self._nursery.start_soon(self._run, *found)

    def _take(self) -> tuple[Source, Job, trio.CancelScope] | None:
        """Return the next job, of the source whose turn it is, and what cancels it."""
        while self._ready:
            source = next(iter(self._ready))
            del self._ready[source]
            if (job := source.take()) is not None:
                self._ready[source] = None  # the others come first
                scope = trio.CancelScope()
                self._scopes.setdefault(source, set()).add(scope)
                return source, job, scope
        return None

    async def _run(self, source: Source, job: Job, scope: trio.CancelScope) -> None:
        """Do one job after another: a task for each costs as much as a small one does."""
        found: tuple[Source, Job, trio.CancelScope] | None = (source, job, scope)
        try:
            while found is not None:
                await self._do(*found)
                found = self._take()
        finally:
            self._running -= 1

    async def _do(self, source: Source, job: Job, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await job()
        except IdcfsError as exc:
            logger.debug("not fetched ahead: %s", exc)
            self._ready.pop(source, None)
        except Exception:
            # In the nursery of all services it would end the mount, which nobody's reading
            # depends on: whoever reads meets the bug too, and gets EIO.
            logger.exception("fetching ahead failed; this is a bug in idcfs")
            self._ready.pop(source, None)
        finally:
            scopes = self._scopes[source]
            scopes.discard(scope)
            if not scopes:
                del self._scopes[source]
