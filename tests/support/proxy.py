"""A proxy before the S3 server that counts what passes and makes it fail on demand.

It listens on loopback, speaks HTTP/1.1 with kept-alive connections, and serves each
connection on a thread of its own. A *rule* is a predicate over requests and a fault;
the first rule that matches is applied, without one a request passes unharmed. All
methods may be called from any thread while requests are under way. Whatever is held
up is let go by `clear` and `close`, and at the latest after `HOLD_S`.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from tests.support.faults import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Fault,
    Refuse,
    Request,
    Reset,
    Shorten,
    Stall,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.networks import Host

HOLD_S = 60.0
"""No request is held up for longer, whatever a rule says."""

_CHUNK = 64 * 1024
_UPSTREAM_TIMEOUT_S = 30.0
_MAX_CONNECTIONS = 256

_RESET = struct.pack("ii", 1, 0)
"""A struct linger of zero seconds: closing then sends RST (socket(7))."""


@dataclass(slots=True)
class Exchange:
    """One request and what became of it. `done` turns True when its end is known."""

    request: Request
    started_s: float
    """On the monotonic clock."""
    status: int | None = None
    body_bytes: int = 0
    """Bytes of the body that were sent to the client."""
    done: bool = False


@dataclass(slots=True)
class _Rule:
    fault: Fault
    when: Callable[[Request], bool]
    times: int | None


class FaultProxy:
    """A proxy before `upstream_url`. Starts listening at once; a context manager.

    With `on`, it listens on that host of a test's own network, and asks upstream from here.
    """

    def __init__(self, upstream_url: str, *, on: Host | None = None) -> None:
        parts = urlsplit(upstream_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = (parts.hostname, parts.port)
        self.released = threading.Event()
        self.slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._changed = threading.Condition()
        self._rules: list[_Rule] = []
        self._exchanges: list[Exchange] = []
        self._sockets: set[socket.socket] = set()
        self.connections = 0
        """How many were made so far."""
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self._on = on
        self.open()

    @property
    def endpoint_url(self) -> str:
        """Where clients connect; the same for the proxy's whole life."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        """Listen (again), on the same port as before."""
        assert self._server is None
        self.released = threading.Event()
        with self._on.entered() if self._on else nullcontext():
            self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening, so that connecting is refused, and drop every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        self.released.set()
        with self._changed:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        server.server_close()  # joins the threads of all connections
        assert self._thread is not None
        self._thread.join()

    def fail(
        self,
        fault: Fault,
        *,
        when: Callable[[Request], bool] = lambda request: True,
        times: int | None = None,
    ) -> None:
        """Apply `fault` to requests for which `when` holds, to the first `times` of them."""
        with self._changed:
            self._rules.append(_Rule(fault, when, times))

    def clear(self) -> None:
        """Forget all rules, and let go of what is held up."""
        with self._changed:
            self._rules.clear()
            self.released.set()
            self.released = threading.Event()

    def forget(self) -> None:
        """Empty the log of requests."""
        with self._changed:
            self._exchanges.clear()

    def log(self, when: Callable[[Request], bool] = lambda request: True) -> tuple[Exchange, ...]:
        """Return the requests so far for which `when` holds, in the order they came."""
        with self._changed:
            return tuple(one for one in self._exchanges if when(one.request))

    def wait_for(self, condition: Callable[[FaultProxy], bool], timeout_s: float = 10.0) -> None:
        """Return once `condition` holds; it is asked at each change. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                raise TimeoutError(f"not within {timeout_s:g} s; the log: {self._exchanges}")

    def admit(self, request: Request) -> tuple[Exchange, Fault | None, threading.Event]:
        """Log `request` and return what shall happen to it, and what would end its wait."""
        exchange = Exchange(request, time.monotonic())
        with self._changed:
            self._exchanges.append(exchange)
            self._changed.notify_all()
            for rule in self._rules:
                if rule.times != 0 and rule.when(request):
                    if rule.times is not None:
                        rule.times -= 1
                    return exchange, rule.fault, self.released
        return exchange, None, self.released

    def note(self, exchange: Exchange, *, sent: int = 0, **changes: int | bool) -> None:
        """Record progress of an exchange and wake whoever waits for it."""
        with self._changed:
            exchange.body_bytes += sent
            for name, value in changes.items():
                setattr(exchange, name, value)
            self._changed.notify_all()

    def connected(self, connection: socket.socket) -> None:
        """Remember an open connection."""
        with self._changed:
            self.connections += 1
            self._sockets.add(connection)
            if self._server is None:  # accepted while closing
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def disconnected(self, connection: socket.socket) -> None:
        """Forget a connection that ends."""
        with self._changed:
            self._sockets.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = _MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what this proxy is for."""

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close in order, except what was marked to be reset: its first word must be RST."""
        assert isinstance(request, socket.socket)
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET)) == _RESET:
            request.close()
        else:
            super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = HOLD_S
    wbufsize = -1

    server: _Server

    def setup(self) -> None:
        self.proxy = self.server.proxy
        self.proxy.slots.acquire()
        self.proxy.connected(self.request)
        self.upstream = http.client.HTTPConnection(
            *self.proxy.upstream, timeout=_UPSTREAM_TIMEOUT_S
        )
        super().setup()

    def finish(self) -> None:
        try:
            with suppress(OSError):
                super().finish()
        finally:
            self.upstream.close()
            self.proxy.disconnected(self.request)
            self.proxy.slots.release()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet; the proxy has a log of its own."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        request = Request(self.command, unquote(parts.path), parts.query, self.headers["Range"])
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        exchange, fault, released = self.proxy.admit(request)
        try:
            self._serve(exchange, fault, released, content)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            self.proxy.note(exchange, done=True)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _serve(
        self, exchange: Exchange, fault: Fault | None, released: threading.Event, content: bytes
    ) -> None:
        match fault:
            case Refuse():
                self.close_connection = True
                return
            case Answer():
                self._answer(exchange, fault)
                return
            case Delay(seconds):
                released.wait(min(seconds, HOLD_S))
        headers = {name: value for name, value in self.headers.items() if name != "Connection"}
        self.upstream.request(self.command, self.path, content or None, headers)
        reply = self.upstream.getresponse()
        self._start_reply(exchange, reply, fault)
        self._send_body(exchange, reply, fault, released)
        self.wfile.flush()

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{answer.code}</Code><Message>Injected by a test</Message>"
            f"<Resource>{exchange.request.path}</Resource><RequestId>test</RequestId></Error>"
        ).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        sent = 0 if self.command == "HEAD" else len(body)
        self.wfile.write(body[:sent])
        self.wfile.flush()
        self.proxy.note(exchange, sent=sent, status=answer.status)

    def _start_reply(
        self, exchange: Exchange, reply: http.client.HTTPResponse, fault: Fault | None
    ) -> None:
        self.proxy.note(exchange, status=reply.status)
        self.send_response_only(reply.status, reply.reason)
        if reply.length is None and self.command != "HEAD":  # chunked, as listings are
            self.send_header("Connection", "close")
        for name, value in reply.getheaders():
            if name == "Content-Length" and isinstance(fault, Shorten):
                value = str(max(int(value) - fault.by_bytes, 0))
            if name not in ("Connection", "Transfer-Encoding"):
                self.send_header(name, value)
        self.end_headers()

    def _send_body(
        self,
        exchange: Exchange,
        reply: http.client.HTTPResponse,
        fault: Fault | None,
        released: threading.Event,
    ) -> None:
        left: int | None = None
        match fault:
            case Stall(after_bytes) | Reset(after_bytes) | Cut(after_bytes):
                left = after_bytes
            case Shorten(by_bytes):
                left = max((reply.length or 0) - by_bytes, 0)
        sent = 0
        while piece := reply.read(_CHUNK if left is None else min(_CHUNK, left - sent)):
            if isinstance(fault, Corrupt) and sent <= fault.at_byte < sent + len(piece):
                at = fault.at_byte - sent
                piece = piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
            self.wfile.write(piece)
            sent += len(piece)
            self.proxy.note(exchange, sent=len(piece))
        self.wfile.flush()
        match fault:
            case Stall():
                released.wait(HOLD_S)
            case Reset():
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if left is not None:
            reply.close()
            self.upstream.close()
            self.close_connection = not isinstance(fault, Shorten)
