"""One thread that fills the cache with many extents at once, each of one request.

A thread for each takes longer than a small object does, as threads of Python wait for one another
at every call to the system. What this one cannot do at once, `fetch.units` does: where somebody
else writes the same, where the cache fails, where the answer is not the ordinary one.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from idcfs.errors import CacheError, StoreError
from idcfs.fetch.disk_pace import DiskPace
from idcfs.store.protocol import AskOtherwiseError, ExtentRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache import CachedObject, ExtentWriter
    from idcfs.model import Extent, ObjectRef
    from idcfs.store.protocol import Drop, Multiplexer

    OpenCached = Callable[[], CachedObject]

logger = logging.getLogger(__name__)

_EXPIRED_EVERY_S: Final = 1.0

_STUCK_S: Final = 1.0
"""So long in one go, the thread waits for the disk or for room. Others need not wait with it."""

_ORDERS_A_TURN: Final = 8
"""Begun before the next look at what has come."""

_ENDS_WITHIN_S: Final = 2.0
"""The thread ends at once, unless it waits for the disk: then it is left behind."""


class _Order:
    """One extent that is wanted. It belongs to the thread, but for what is said otherwise."""

    def __init__(
        self,
        ref: ObjectRef,
        extent: Extent,
        *,
        cached: CachedObject | None = None,
        open_cached: OpenCached | None = None,
    ) -> None:
        """One of the two tells where it goes: an open object, or how the thread opens it."""
        self.ref = ref
        self.extent = extent
        self.cached = cached
        self.open_cached = open_cached
        self.told: Callable[[Exception | None], None] = lambda _: None
        """Called on the trio thread."""
        self.is_dropped = False
        """Whether nobody waits for it any more; set on the trio thread."""
        self.was_missing = True
        """Whether anything had to be fetched."""
        self.writer: ExtentWriter | None = None
        self.drop: Drop | None = None

    def is_given_up(self) -> bool:
        """See `CachedObject.writer`."""
        return self.is_dropped


class Filler:
    """Fills the cache in a thread of its own, which begins with the first extent.

    Its methods belong on the trio thread.
    """

    def __init__(self, find_multiplexer: Callable[[], Multiplexer | None]) -> None:
        self._find_multiplexer = find_multiplexer
        self._orders: deque[_Order] = deque()
        """Those that begin, and those that are dropped; for the thread."""
        self._news: deque[tuple[_Order, Exception | None]] = deque()
        """How orders ended; for the trio thread."""
        self._under_way: set[_Order] = set()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread: threading.Thread | None = None
        self._wake = -1
        self._is_closed = False
        self._opening = DiskPace()
        """That of the disk while objects are opened. The thread's, but to be looked at by all."""
        self._busy_since_s: float | None = None
        """When the thread began what it does; None while it waits for something to do."""

    async def fill(self, ref: ObjectRef, cached: CachedObject, extent: Extent) -> None:
        """Have adjacent units in the cache, checked; all of them are there afterwards.

        Raises AskOtherwiseError, and IntegrityError if what came is not what was promised.
        Cancelling does not wait.
        """
        await self._carry_out(_Order(ref, extent, cached=cached))

    async def open_filled(
        self, ref: ObjectRef, extent: Extent, open_cached: OpenCached
    ) -> tuple[CachedObject, bool]:
        """Do the same for an object that `open_cached` opens, in the thread.

        Return it, and whether anything had to be fetched. It must be small: what somebody was
        killed over is checked when it is opened. Raises as `fill`; it is closed then.
        """
        if not self._opening.is_quick:
            raise AskOtherwiseError("threads open objects quicker")
        order = _Order(ref, extent, open_cached=open_cached)
        await self._carry_out(order)
        assert order.cached is not None  # without an error it was opened
        return order.cached, order.was_missing

    async def _carry_out(self, order: _Order) -> None:
        if self._is_closed:
            raise AskOtherwiseError("no more is filled")
        busy_since_s = self._busy_since_s
        if busy_since_s is not None and time.monotonic() - busy_since_s > _STUCK_S:
            raise AskOtherwiseError("the disk is waited for")
        if self._thread is None:
            self._start()
        task, failure, waits = trio.lowlevel.current_task(), None, True

        def told(error: Exception | None) -> None:
            nonlocal failure, waits
            if waits:
                failure, waits = error, False
                trio.lowlevel.reschedule(task)

        order.told = told
        self._send(order)

        def abort(_: Callable[[], None]) -> trio.lowlevel.Abort:
            nonlocal waits
            waits = False
            order.is_dropped = True
            self._send(order)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End the thread, and with it what is under way.

        One that waits for a disk which does not answer ends when it does, or with the process.
        """
        self._is_closed = True
        if (thread := self._thread) is None:
            return
        self._thread = None
        os.eventfd_write(self._wake, 1)
        thread.join(_ENDS_WITHIN_S)
        if not thread.is_alive():
            os.close(self._wake)

    def _start(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        thread = threading.Thread(target=self._run, name="filler", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # a container may have a limit of threads
            os.close(self._wake)
            raise AskOtherwiseError("there is no thread to be had") from exc
        self._thread = thread

    def _send(self, order: _Order) -> None:
        self._orders.append(order)
        if self._is_closed:  # looked at last here, and set first by the thread that ends
            self._turn_away()
        elif len(self._orders) == 1:
            # If there are more, the thread is about to take them, and this one with them.
            os.eventfd_write(self._wake, 1)

    def _turn_away(self) -> None:
        """End what nobody will begin any more. In any thread, also in two at once."""
        with suppress(IndexError):
            while True:
                order = self._orders.popleft()
                if not order.is_dropped:  # else it may be under way, which the thread ends
                    self._end(order, AskOtherwiseError("no more is filled"))

    def _deliver(self) -> None:
        """Tell those who wait. On the trio thread."""
        while self._news:
            order, error = self._news.popleft()
            order.told(error)

    # In the thread

    def _run(self) -> None:
        multiplexer = None
        try:
            multiplexer = self._find_multiplexer()
            if multiplexer is not None:
                self._serve(multiplexer)
        except StoreError as exc:  # it has been closed
            logger.debug("%s", exc)
        except Exception:
            logger.exception("filling the cache in one thread failed; this is a bug in idcfs")
        finally:
            self._is_closed = True
            for order in self._under_way.copy():
                self._end(order, AskOtherwiseError("no more is filled"))
            self._turn_away()
            if multiplexer is not None:
                multiplexer.close()

    def _serve(self, multiplexer: Multiplexer) -> None:
        with select.epoll() as waiting:
            waiting.register(multiplexer.fileno(), select.EPOLLIN)
            waiting.register(self._wake, select.EPOLLIN)
            expires_s, has_any = 0.0, True
            while not self._is_closed:
                self._busy_since_s = None
                if not self._orders:
                    waiting.poll(_EXPIRED_EVERY_S if has_any else None)
                self._busy_since_s = time.monotonic()
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                for _ in range(min(len(self._orders), _ORDERS_A_TURN)):
                    self._take(self._orders.popleft(), multiplexer)
                    has_any = True
                multiplexer.turn()
                if (now_s := time.monotonic()) >= expires_s:
                    expires_s = now_s + _EXPIRED_EVERY_S
                    has_any = multiplexer.expire()

    def _take(self, order: _Order, multiplexer: Multiplexer) -> None:
        """Begin what is ordered, or end it if nobody waits for it any more."""
        if order.is_dropped:
            self._end(order, AskOtherwiseError("nobody waits for it"))
            return
        try:
            if not multiplexer.can_begin(order.ref.bucket):
                raise AskOtherwiseError("no connection is idle")
            if order.cached is None and order.open_cached is not None:
                began_s = time.monotonic()
                order.cached = order.open_cached()
                self._opening.note(time.monotonic() - began_s, 0)
            assert order.cached is not None  # else there is what opens it
            writer = order.cached.writer(order.extent, order.is_given_up, waits=False)
            if writer is None:
                order.was_missing = False
                self._end(order, None)
                return
            order.writer = writer
            if writer.extent != order.extent:
                raise AskOtherwiseError("only a part can be had at once")
            request = ExtentRequest(
                order.ref.bucket,
                order.ref.key,
                writer.extent,
                order.ref.instance.etag,
                sink=writer.write,
                ended=lambda error: self._finish(order, writer, error),
                offered=writer.expect if writer.extent == order.ref.whole else None,
            )
            order.drop = multiplexer.begin(request)
            if order.drop is None:
                raise AskOtherwiseError("the connection was lost, or it cannot be asked for so")
            self._under_way.add(order)
        except Exception as exc:
            self._end(order, exc)

    def _finish(self, order: _Order, writer: ExtentWriter, error: Exception | None) -> None:
        order.drop = None
        if error is None:
            try:
                writer.commit()
            except Exception as exc:
                error = exc
        self._end(order, error)

    def _end(self, order: _Order, error: Exception | None) -> None:
        """Let go of an order, and tell who waits for it."""
        if order.drop is not None:
            order.drop()
        if error is not None and order.writer is not None:
            order.writer.abort()
        order.drop = order.writer = None
        self._under_way.discard(order)
        if error is not None and order.open_cached is not None and order.cached is not None:
            # One that ended well, but is dropped before anybody knows, comes here once more.
            order.cached.close()
            order.cached = None
        if isinstance(error, CacheError):  # which the other way meets too, and knows a way round
            error = AskOtherwiseError(str(error))
        self._news.append((order, error))
        # If there are more, the trio thread is about to take them, and this one with them: unless
        # they came from two threads at once, each of which found the other's.
        if (len(self._news) == 1 or self._is_closed) and self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._deliver)
