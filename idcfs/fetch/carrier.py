"""Has one task receive many small objects: a thread for each would cost more than they do.

What it cannot bring is the ordinary transfers' affair; see `store.multiplex`.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import trio

from idcfs.store.protocol import AskOtherwiseError, ExtentRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import ObjectRef
    from idcfs.store.protocol import Multiplexer, OfferedSink, Sink

_EXPIRED_EVERY_S: Final = 1.0

_QUICK_FILE_S: Final = 0.001
"""A local disk takes 0.1 to 0.3 ms to make, lock and rename a file. On a network each of these is
a round trip: where one takes 1 ms, the trio thread alone brings 140 files a second, and 16 threads
bring 1,000."""

_QUICK_BYTES_PER_S: Final = 500e6
"""What the system takes in before it writes it down comes to 2 GB a second and more."""

_SAMPLE_FILES: Final = 16

_SLOW_FOR_S: Final = 60.0
"""Then another sample shows whether the disk had only been behind."""


class DiskPace:
    """Tells whether one thread may wait for the disk of each file. For one thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files = 0
        self._quickest = math.inf
        self._slow_until_s = -math.inf

    @property
    def is_quick(self) -> bool:
        """Whether nothing else is known."""
        return self._clock() >= self._slow_until_s

    def note(self, waited_s: float, size_bytes: int) -> None:
        """Count a file for which the disk took so long."""
        # The quickest counts: of others it may have been threads that were waited for.
        share = waited_s / (_QUICK_FILE_S + size_bytes / _QUICK_BYTES_PER_S)
        self._quickest = min(self._quickest, share)
        self._files += 1
        if self._files == _SAMPLE_FILES:
            if self._quickest > 1:
                self._slow_until_s = self._clock() + _SLOW_FOR_S
            self._files, self._quickest = 0, math.inf


class Carrier:
    """Brings objects by a `Multiplexer`. All on the trio thread, on which sinks run too."""

    def __init__(self, multiplexer: Multiplexer) -> None:
        self._multiplexer = multiplexer
        self.disk = DiskPace()
        """That of what is brought. Where it is slow, threads are the better way."""

    def can_bring(self, ref: ObjectRef) -> bool:
        """Tell whether it would make sense to try."""
        return (
            self.disk.is_quick
            and bool(ref.instance.size_bytes)
            and self._multiplexer.can_begin(ref.bucket)
        )

    async def run(self) -> None:
        """Serve those who wait in `bring`, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._expire)
                while True:
                    await trio.lowlevel.wait_readable(self._multiplexer.fileno())
                    self._multiplexer.turn()
        finally:
            self._multiplexer.close()

    async def bring(self, ref: ObjectRef, sink: Sink, offered: OfferedSink | None) -> None:
        """Send the bytes of an object, which is not empty, to `sink`.

        Raises AskOtherwiseError, and what the sink raises. Cancelling ends it at once.
        """
        task, failure = trio.lowlevel.current_task(), None

        def ended(error: Exception | None) -> None:
            nonlocal failure
            failure = error
            trio.lowlevel.reschedule(task)

        etag = ref.instance.etag
        drop = self._multiplexer.begin(
            ExtentRequest(ref.bucket, ref.key, ref.whole, etag, sink, ended, offered)
        )
        if drop is None:
            raise AskOtherwiseError("no connection is idle")

        def abort(_: Callable[[], None]) -> trio.lowlevel.Abort:
            drop()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if failure is not None:
            raise failure

    async def _expire(self) -> None:
        while True:
            await trio.sleep(_EXPIRED_EVERY_S)
            self._multiplexer.expire()
