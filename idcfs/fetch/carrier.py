"""Has one task receive many small objects: a thread for each would cost more than they do.

What it cannot bring is the ordinary transfers' affair; see `store.multiplex`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from idcfs.fetch.disk_pace import DiskPace
from idcfs.store.protocol import AskOtherwiseError, ExtentRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import ObjectRef
    from idcfs.store.protocol import Multiplexer, OfferedSink, Sink

_EXPIRED_EVERY_S: Final = 1.0


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
