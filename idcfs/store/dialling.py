"""Connects to servers: by name or address, through proxies, with TLS.

The environment decides as it does for other programs: HTTP_PROXY, HTTPS_PROXY and
NO_PROXY, and for certificates AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, SSL_CERT_FILE and
SSL_CERT_DIR. It is read once, at the first connection.
"""

from __future__ import annotations

import base64
import functools
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from idcfs.store.connections import DEFAULT_PORTS, Connection, Server
from idcfs.store.http import MalformedAnswerError, read_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idcfs.store.connections import ByteStream

_CA_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
"""Name a file, or a directory, of certificates to trust in place of the system's. The AWS
tools know both, in this order."""


class ConnectTimeoutError(TimeoutError):
    """No connection within the time given for it."""


class UnreachableError(OSError):
    """The server's name is unknown, or it cannot be connected to."""


class ProxyFailedError(OSError):
    """The proxy cannot be reached, or does not behave like one."""


class ProxyRefusedError(OSError):
    """The proxy answered that it will not connect."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered {status}")
        self.status = status


class CertificatesError(OSError):
    """The file of trusted certificates that the environment names cannot be used."""


class Proxy:
    """A proxy that the environment names."""

    def __init__(self, url: str) -> None:
        """Raises ProxyFailedError if the URL is not one of a proxy."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url.removeprefix('//')}")
            port = parts.port or DEFAULT_PORTS[parts.scheme]
        except (ValueError, KeyError) as exc:
            raise ProxyFailedError("its URL is not http:// or https://") from exc
        self.server = Server(parts.scheme, parts.hostname or "", port)
        self.authorization = ""
        """A header line that holds user name and password, or nothing."""
        if parts.username is not None and parts.password is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password)}".encode()
            self.authorization = (
                f"Proxy-Authorization: Basic {base64.b64encode(words).decode()}\r\n"
            )


class Dialler:
    """Opens connections. Thread-safe."""

    def __init__(self, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._routes: dict[Server, Proxy | None] = {}

    @functools.cached_property
    def _proxies(self) -> Mapping[str, str]:
        return getproxies()

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return make_tls_context(os.environ)

    def proxy_of(self, server: Server) -> Proxy | None:
        """Return the proxy on the way to `server`. Raises ProxyFailedError for a bad URL."""
        if server not in self._routes:
            url = self._proxies.get(server.scheme)
            goes_through = url and not proxy_bypass(server.address)
            self._routes[server] = Proxy(url) if url and goes_through else None
        return self._routes[server]

    def dial(self, server: Server) -> ByteStream:
        """Connect to `server`, with TLS if its scheme asks for it. Raises OSError."""
        proxy = self.proxy_of(server)
        if proxy is None:
            return self._ready(self._connect(server, UnreachableError), server)
        stream: ByteStream = self._connect(proxy.server, ProxyFailedError)
        try:
            if proxy.server.scheme == "https":
                stream = self._start_tls(stream, proxy.server)
            if server.scheme == "http":
                stream.settimeout(self._read_timeout_s)
                return stream
            self._tunnel(stream, proxy, server)
        except BaseException:
            stream.close()
            raise
        return self._ready(stream, server)

    def _ready(self, stream: ByteStream, server: Server) -> ByteStream:
        """Return a stream to `server` that may be used, given one that leads there."""
        try:
            if server.scheme == "https":
                stream = self._start_tls(stream, server)
            stream.settimeout(self._read_timeout_s)
        except BaseException:
            stream.close()
            raise
        return stream

    def _connect(self, server: Server, failure: type[OSError]) -> socket.socket:
        """Open a plain connection. Raises `failure`, or ConnectTimeoutError for a server."""
        try:
            plain = socket.create_connection(
                (server.host, server.port), timeout=self._connect_timeout_s
            )
        except TimeoutError as exc:
            if failure is UnreachableError:
                raise ConnectTimeoutError("no connection in time") from exc
            raise failure("no connection in time") from exc
        except UnicodeError as exc:  # of a host name that cannot be encoded
            raise failure("no such host") from exc
        except OSError as exc:
            raise failure(exc.strerror or str(exc)) from exc
        # Requests are small and answers are waited for: nothing is gained by holding back.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def _start_tls(self, stream: ByteStream, server: Server) -> ByteStream:
        """Speak TLS over `stream`, and make sure that it is `server` at the other end."""
        try:
            if type(stream) is socket.socket:
                return self._tls.wrap_socket(stream, server_hostname=server.host)
            # TLS within the TLS to a proxy: more than the standard library's sockets can.
            from urllib3.util.ssltransport import SSLTransport

            outer = cast("ssl.SSLSocket", stream)
            inner = SSLTransport(outer, self._tls, server_hostname=server.host)
            return cast("ByteStream", inner)
        except TimeoutError as exc:
            raise ConnectTimeoutError("no TLS in time") from exc

    def _tunnel(self, stream: ByteStream, proxy: Proxy, server: Server) -> None:
        """Have the proxy connect to `server`. Raises ProxyRefusedError, ProxyFailedError."""
        request = (
            f"CONNECT {server.address} HTTP/1.1\r\nHost: {server.address}\r\n"
            f"{proxy.authorization}\r\n"
        )
        connection = Connection(proxy.server, stream)
        try:
            stream.sendall(request.encode())
            head = read_head(connection, self._connect_timeout_s)
        except (OSError, MalformedAnswerError) as exc:
            raise ProxyFailedError(str(exc)) from exc
        if not 200 <= head.status < 300:
            raise ProxyRefusedError(head.status)
        if connection.start != connection.end:
            raise ProxyFailedError("it sent bytes of its own ahead of the server's")


def make_tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that trusts what the environment names, or the system does.

    A system without certificates, as a slim container, gets those of the package certifi.
    Raises CertificatesError.
    """
    named = next((environ[name] for name in _CA_VARIABLES if environ.get(name)), None)
    try:
        if named is None:
            context = ssl.create_default_context()
            if not context.cert_store_stats()["x509_ca"] and not _has_directory_of_certificates():
                context.load_verify_locations(certifi.where())
            return context
        if Path(named).is_dir():
            return ssl.create_default_context(capath=named)
        return ssl.create_default_context(cafile=named)
    except (OSError, ValueError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise CertificatesError(f"{named or 'of the system'}: {reason}") from exc


def _has_directory_of_certificates() -> bool:
    # Certificates in a directory are only read when one is looked for.
    directory = ssl.get_default_verify_paths().capath
    return bool(directory) and any(Path(directory).iterdir())
