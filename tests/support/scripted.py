"""An HTTP server that answers as a test tells it to: faults that no real store will show."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

ETAG = "781e5e245d69b566979b86e28d23f2c7"


@dataclass(frozen=True)
class Seen:
    """What is kept of a request: its handler serves the connection's next one too."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> tuple[int, int]:
        """First and last offset asked for."""
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        return int(first), int(last)


class Request(BaseHTTPRequestHandler):
    """One request, and the means to answer it well or badly."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append(Seen(self.path, dict(self.headers)))
            number = len(self.server.requests)
        self.server.answer(self, number)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    @property
    def query(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}

    @property
    def range(self) -> tuple[int, int]:
        """First and last offset asked for."""
        return Seen(self.path, dict(self.headers)).range

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.head(status, **{"Content_Length": str(len(body)), **headers})
        self.wfile.write(body)

    def head(self, status: int, **headers: str) -> None:
        """Send status and headers only; underscores in their names stand for hyphens."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.flush()

    def send_range(
        self, content: bytes, *, etag: str = ETAG, stop_after: int | None = None
    ) -> None:
        """Answer the range asked for, as S3 would, or break off after `stop_after` bytes."""
        body = self.promise_range(content, etag=etag)
        self.wfile.write(body[:stop_after])
        if stop_after is not None:
            self.close_connection = True

    def promise_range(self, content: bytes, *, etag: str = ETAG) -> bytes:
        """Send the head of such an answer only, and return the body that it promises."""
        first, last = self.range
        body = content[first : last + 1]
        self.head(
            206,
            ETag=f'"{etag}"',
            Content_Range=f"bytes {first}-{last}/{len(content)}",
            Content_Length=str(len(body)),
        )
        return body

    def send_error_code(self, status: int, code: str) -> None:
        self.send(
            status,
            f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode(),
            Content_Type="application/xml",
        )


class ScriptedServer(ThreadingHTTPServer):
    """Answers each request by calling `answer(request, number)`, numbered from 1.

    With `tls` it speaks TLS, and `host` is the address that it listens on.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        answer: Callable[[Request, int], None],
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, 0), Request)
        self.scheme = "http"
        self.host = host
        if tls is not None:
            self.scheme = "https"
            # The handshake belongs to the thread of the connection, not to the one that accepts.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.connections = 0
        self.answer = answer
        self.requests: list[Seen] = []
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.server_port}"

    def process_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that give up are part of the game."""

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def listing(keys: list[str], *, next_token: str | None = None) -> bytes:
    """Return a page of a listing as S3 writes it."""
    lines = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2024-05-06T07:08:09.123Z</LastModified>"
        f'<ETag>"{ETAG}"</ETag><Size>10</Size></Contents>'
        for key in keys
    )
    token = f"<NextContinuationToken>{next_token}</NextContinuationToken>" if next_token else ""
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>{'true' if next_token else 'false'}</IsTruncated>{token}{lines}"
        "</ListBucketResult>"
    ).encode()
