"""One request of a multiplexer, and what has come of its answer so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.store.bodies import Pace

if TYPE_CHECKING:
    from idcfs.store.asked import AskedExtent
    from idcfs.store.connections import Connection
    from idcfs.store.protocol import Ended, OfferedSink, Sink


class Exchange:
    """See above. It is changed by the multiplexer alone."""

    __slots__ = (
        "connection",
        "counted_s",
        "ended",
        "fresh_bytes",
        "head",
        "keeps_alive",
        "left",
        "moved_s",
        "offered",
        "pace",
        "sink",
        "wanted",
    )

    def __init__(
        self,
        connection: Connection,
        wanted: AskedExtent,
        sink: Sink,
        ended: Ended,
        offered: OfferedSink | None,
        *,
        now_s: float,
        window_s: float,
    ) -> None:
        self.connection = connection
        self.wanted = wanted
        self.sink = sink
        self.ended = ended
        self.offered = offered
        self.head = b""
        """What has come of the head, as long as it is not whole."""
        self.left: int | None = None
        """Bytes of the body that have not come; None before the head is whole."""
        self.keeps_alive = False
        self.moved_s = self.counted_s = now_s
        self.fresh_bytes = 0
        """Those that came since `counted_s`."""
        self.pace = Pace(window_s=window_s)
