"""One request of a multiplexer, and what has come of its answer so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.store.bodies import Pace

if TYPE_CHECKING:
    from idcfs.store.asked import AskedExtent
    from idcfs.store.connections import Connection
    from idcfs.store.protocol import ExtentRequest


class Exchange:
    """See above. It is changed by the multiplexer alone."""

    __slots__ = (
        "connection",
        "counted_s",
        "fresh_bytes",
        "head",
        "keeps_alive",
        "left",
        "moved_s",
        "pace",
        "request",
        "wanted",
    )

    def __init__(
        self,
        connection: Connection,
        request: ExtentRequest,
        wanted: AskedExtent,
        *,
        now_s: float,
        window_s: float,
    ) -> None:
        self.connection = connection
        self.request = request
        self.wanted = wanted
        """The same, written down."""
        self.head = b""
        """What has come of the head, as long as it is not whole."""
        self.left: int | None = None
        """Bytes of the body that have not come; None before the head is whole."""
        self.keeps_alive = False
        self.moved_s = self.counted_s = now_s
        self.fresh_bytes = 0
        """Those that came since `counted_s`."""
        self.pace = Pace(window_s=window_s)
