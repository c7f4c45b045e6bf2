"""Kept-alive connections to the servers that requests go to. Thread-safe.

Nothing here knows S3 or HTTP; `dialling` makes the connections, `http` speaks over them.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_BUFFER_BYTES = 256 * 1024
"""What one read takes at most. Objects of half a megabyte then take four reads; with 64 KiB
they take ten, and with 1 MiB the processor's time is no less."""

LONGEST_IDLE_S = 60.0
"""Servers hang up after some 5 to 75 s, and routers on the way forget a connection after a
few minutes, after which what is sent over it vanishes."""

_CHECKED_IDLE_S = 1.0
"""A connection idle for longer is looked at before it is used. One that the server closed
at the same moment costs no more than a second attempt, at once."""

DEFAULT_PORTS = {"http": 80, "https": 443}

logger = logging.getLogger(__name__)


class ByteStream(Protocol):
    """What is asked of a socket, or of TLS over one."""

    def sendall(self, content: bytes, /) -> None:
        """Send all of `content`. Raises OSError."""
        ...

    def send(self, content: bytes, /) -> int:
        """Send what can be sent at once and return how many bytes that was. Raises OSError."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """Wait for some bytes and return how many came; 0 at the end. Raises OSError."""
        ...

    def settimeout(self, timeout_s: float, /) -> None:
        """Set how long each call may wait."""
        ...

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """Where a request goes to."""

    scheme: str
    """`http` or `https`."""
    host: str
    """As it stands in a URL, without the brackets of an IPv6 address."""
    port: int

    @property
    def netloc(self) -> str:
        """Host and port as in a URL; the port only if it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Connection:
    """One connection and the buffer that everything from it is read into. For one thread.

    The bytes from `start` to `end` of `buffer` have come and were not yet taken.
    """

    __slots__ = ("_view", "buffer", "end", "idle_since_s", "server", "start", "stream")

    def __init__(self, server: Server, stream: ByteStream) -> None:
        self.server = server
        self.stream = stream
        self.buffer = bytearray(_BUFFER_BYTES)
        self.start = 0
        self.end = 0
        self.idle_since_s = 0.0
        self._view = memoryview(self.buffer)

    def receive(self) -> int:
        """Wait for bytes behind those not yet taken; return how many came, 0 at the end.

        Raises OSError. The buffer must not be full of what was not taken.
        """
        if self.start == self.end:
            self.start = self.end = 0
        elif self.end == len(self.buffer):
            left = self.end - self.start
            self.buffer[:left] = self.buffer[self.start :]
            self.start, self.end = 0, left
        count = self.stream.recv_into(self._view[self.end :])
        self.end += count
        return count

    def take(self, most: int) -> memoryview:
        """Return up to `most` of the bytes that have come. They are valid until `receive`."""
        start = self.start
        self.start = min(start + most, self.end)
        return self._view[start : self.start]

    def is_usable(self) -> bool:
        """Tell whether nothing has come, not even the end, while it was idle."""
        waiting = select.poll()
        waiting.register(self.stream.fileno(), select.POLLIN)
        return not waiting.poll(0)

    def close(self) -> None:
        """Hang up. Harmless when done twice."""
        self.stream.close()


class Pool:
    """Makes connections, and keeps those that may carry another request."""

    def __init__(
        self,
        *,
        dial: Callable[[Server], ByteStream],
        most_idle: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dial = dial
        self._most_idle = most_idle
        self._clock = clock
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def connect(self, server: Server) -> Connection:
        """Return a connection of one's own. Raises OSError."""
        logger.debug("connecting to %s", server.netloc)
        return Connection(server, self._dial(server))

    def find_idle(self, server: Server) -> Connection | None:
        """Return the kept connection to `server` that was used last, if there is one."""
        while (connection := self._pop(server)) is not None:
            idle_s = self._clock() - connection.idle_since_s
            if idle_s < _CHECKED_IDLE_S:
                return connection
            if idle_s < LONGEST_IDLE_S and connection.is_usable():
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        """Take a connection back whose last answer has been read to its end."""
        connection.idle_since_s = self._clock()
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                if len(self._idle) <= self._most_idle:
                    return
                connection = self._idle.pop(0)
        connection.close()

    def close(self) -> None:
        """Hang up what is idle, and keep nothing more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _pop(self, server: Server) -> Connection | None:
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index].server == server:
                    return self._idle.pop(index)
        return None
