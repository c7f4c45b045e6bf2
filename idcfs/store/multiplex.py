"""Many requests at once in one thread, over connections that are there already: the small files.

A thread for each transfer costs more than a small object does, since threads of Python wait for
one another at every call to the system. Here one thread sends the requests and takes what has
come, of whichever connection. It deals with the ordinary answer on a connection that the pool
has kept, and with nothing else: where there is none, or the answer is another one, whoever asked
is told so and asks by `S3Store.get_extent`, which dials, tries again and explains, and to which
what was met here counts as its first attempt.
"""

from __future__ import annotations

import functools
import select
import time
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from typing import TYPE_CHECKING, Final

from idcfs.errors import StoreError
from idcfs.store.asked import UnusualError
from idcfs.store.connections import LONGEST_IDLE_S
from idcfs.store.exchange import Exchange
from idcfs.store.http import LONGEST_HEAD_BYTES, EndedEarlyError, MalformedAnswerError, parse_head
from idcfs.store.protocol import AskOtherwiseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.store.connections import Connection, Server
    from idcfs.store.direct import DirectWire
    from idcfs.store.protocol import Drop, ExtentRequest

_BUFFER_BYTES: Final = 1 << 20
"""What one read takes at most; all connections share the memory. What has come of an object of
half a megabyte is mostly taken at once: 2,000 of them took 2,100 reads."""

_MOST_EVENTS: Final = 16
"""Connections that are served before somebody else has a turn."""

MOST_RECORDS: Final = 16
"""TLS hands out one record of 16 KiB a call. After so many the next connection has its turn."""

_NOT_YET: Final = (BlockingIOError, SSLWantReadError, SSLWantWriteError)


class DirectMultiplexer:
    """A `Multiplexer` over the kept connections of a `DirectWire`. For one thread."""

    def __init__(
        self,
        wire: DirectWire,
        *,
        bucket_name: Callable[[str], str],
        read_timeout_s: float,
        may_ask: Callable[[], bool] = lambda: True,
        answered: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bucket_name` tells what the index's bucket is called at the endpoint of `wire`.

        `answered` is called when the ordinary answer to a request begins to come.
        """
        self._wire = wire
        self._bucket_name = bucket_name
        self._read_timeout_s = read_timeout_s
        self._may_ask = may_ask
        self._answered = answered
        self._clock = clock
        self._epoll = select.epoll()
        self._busy: dict[int, Exchange] = {}
        self._idle: dict[Server, list[Connection]] = {}
        """By server, the one that was used last behind the others."""
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        """See `Multiplexer.fileno`."""
        return self._epoll.fileno()

    def can_begin(self, bucket: str) -> bool:
        """See `Multiplexer.can_begin`."""
        if self._epoll.closed or not self._may_ask():
            return False
        try:
            server = self._wire.find_server(self._bucket_name(bucket))
        except UnusualError:
            return False
        connection = self._take_idle(server)
        if connection is not None:
            self._idle.setdefault(server, []).append(connection)
        return connection is not None

    def begin(self, request: ExtentRequest) -> Drop | None:
        """See `Multiplexer.begin`."""
        if self._epoll.closed or not self._may_ask():
            return None
        bucket, is_whole = self._bucket_name(request.bucket), request.offered is not None
        try:
            wanted = self._wire.compose(bucket, request.key, request.extent, request.etag, is_whole)
        except UnusualError:
            return None
        server, message = wanted.asked.server, wanted.asked.request
        connection = self._take_idle(server)
        if connection is None:
            return None
        try:
            is_sent = connection.stream.send(message) == len(message)
        except OSError:
            is_sent = False
        if not is_sent:  # it was hung up, or takes less than a request at once
            self._hang_up(connection)
            return None
        exchange = Exchange(
            connection, request, wanted, now_s=self._clock(), window_s=self._read_timeout_s
        )
        self._busy[connection.stream.fileno()] = exchange
        return functools.partial(self._drop, exchange)

    def _drop(self, exchange: Exchange) -> None:
        self._busy.pop(exchange.connection.stream.fileno(), None)
        self._hang_up(exchange.connection)

    def turn(self) -> None:
        """See `Multiplexer.turn`."""
        for descriptor, _ in self._epoll.poll(0, _MOST_EVENTS):
            if (exchange := self._busy.get(descriptor)) is not None:
                self._receive(exchange)
            else:
                self._drop_idle(descriptor)

    def expire(self) -> bool:
        """See `Multiplexer.expire`."""
        now_s = self._clock()
        for exchange in list(self._busy.values()):
            if not exchange.connection.is_usable():
                continue  # something has come: it was this process that did not take it
            try:
                if now_s - exchange.moved_s > self._read_timeout_s:
                    raise TimeoutError("nothing comes")
                exchange.pace.note(now_s - exchange.counted_s, exchange.fresh_bytes)
            except TimeoutError as exc:
                self._give_up(exchange, exc)
            exchange.counted_s, exchange.fresh_bytes = now_s, 0
        for connections in self._idle.values():
            while connections and now_s - connections[0].idle_since_s >= LONGEST_IDLE_S:
                self._hang_up(connections.pop(0))
        return bool(self._busy) or any(self._idle.values())

    def close(self) -> None:
        """See `Multiplexer.close`."""
        for exchange in list(self._busy.values()):
            self._drop(exchange)
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._epoll.close()

    def _take_idle(self, server: Server) -> Connection | None:
        """Return a connection that waits for a request, registered and never blocking."""
        if kept := self._idle.get(server):
            return kept.pop()
        connection = self._wire.find_idle(server)
        if connection is not None:
            try:
                connection.stream.settimeout(0.0)
                self._epoll.register(connection.stream.fileno(), select.EPOLLIN)
            except OSError:  # a user may wait for so many descriptors only
                connection.close()
                return None
        return connection

    def _drop_idle(self, descriptor: int) -> None:
        """Hang up a connection over which something came, or its end, though nothing was asked."""
        for connections in self._idle.values():
            for connection in connections:
                if connection.stream.fileno() == descriptor:
                    connections.remove(connection)
                    self._hang_up(connection)
                    return

    def _hang_up(self, connection: Connection) -> None:
        connection.close()  # which also ends that it is waited for

    def _receive(self, exchange: Exchange) -> None:
        """Take what has come of one answer."""
        stream = exchange.connection.stream
        try:
            if not isinstance(stream, SSLSocket):
                self._take(exchange, stream.recv_into(self._view))
                return
            records = 1
            while self._take(exchange, stream.recv_into(self._view)):
                # Of what is pending no descriptor tells.
                if records >= MOST_RECORDS and not stream.pending():
                    return
                records += 1
        except _NOT_YET:
            return
        except OSError as exc:
            self._give_up(exchange, exc)

    def _take(self, exchange: Exchange, count: int) -> bool:
        """Take `count` bytes that are in the buffer. Tell whether more are to come."""
        start = 0
        if not count:
            self._give_up(exchange, EndedEarlyError("the server hung up within an answer"))
            return False
        exchange.moved_s = self._clock()
        exchange.fresh_bytes += count
        if exchange.left is None:
            try:
                start = self._take_head(exchange, count)
            except (UnusualError, StoreError) as exc:
                self._give_up(exchange, exc)
                return False
            except Exception as exc:  # of who is offered the checksums
                self._end(exchange, exc)
                return False
            if exchange.left is None:
                return True
        body = self._view[start : min(start + exchange.left, count)]
        if body:
            try:
                exchange.request.sink(body)
            except Exception as exc:
                self._end(exchange, exc)
                return False
            exchange.left -= len(body)
        if exchange.left:
            return True
        # Bytes that nobody asked for would be taken for the next answer.
        self._finish(exchange, is_clean=start + len(body) == count)
        return False

    def _take_head(self, exchange: Exchange, count: int) -> int:
        """Look for the head's end; return where in the buffer the body begins.

        Raises UnusualError unless the head is whole or may become so, and right.
        """
        known = len(exchange.head)
        # One byte more than is allowed, so that nothing is left out of what is.
        came = exchange.head + self._view[: min(count, LONGEST_HEAD_BYTES + 1)]
        end = came.find(b"\r\n\r\n")
        if end < 0:
            if len(came) > LONGEST_HEAD_BYTES:
                raise UnusualError("the answer's headers do not end")
            exchange.head = bytes(came)
            return count
        try:
            head = parse_head(bytes(came[:end]))
        except MalformedAnswerError as exc:
            raise UnusualError(str(exc)) from exc
        checksums = self._wire.check(exchange.wanted, head)
        self._answered()
        if checksums and (offered := exchange.request.offered) is not None:
            offered(checksums)
        exchange.left = exchange.wanted.extent.length
        exchange.keeps_alive = head.keeps_alive
        return end + 4 - known

    def _finish(self, exchange: Exchange, *, is_clean: bool) -> None:
        connection = exchange.connection
        del self._busy[connection.stream.fileno()]
        if is_clean and exchange.keeps_alive:
            connection.idle_since_s = self._clock()
            self._idle.setdefault(connection.server, []).append(connection)
        else:
            self._hang_up(connection)
        exchange.request.ended(None)

    def _end(self, exchange: Exchange, error: Exception) -> None:
        self._drop(exchange)
        exchange.request.ended(error)

    def _give_up(self, exchange: Exchange, error: UnusualError | StoreError | OSError) -> None:
        """End an exchange for a reason that the next attempt must know, or would meet again."""
        has_begun = exchange.head or exchange.left is not None
        if has_begun or not isinstance(error, ConnectionError):  # hung up while it was idle
            self._wire.note_met(exchange.wanted, error)
        self._end(exchange, AskOtherwiseError(str(error)))
