"""Connects to servers directly, with TLS where it is asked for.

The environment decides as it does for botocore: AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE name the
certificates to trust, and HTTP_PROXY, HTTPS_PROXY and NO_PROXY say whether there is a
proxy on the way, through which nothing is sent from here. SSL_CERT_FILE counts too.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from idcfs.store.connections import ByteStream, Server
    from idcfs.store.sockets import Sockets

_CA_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Name a file of certificates to trust in place of the system's. botocore knows the first
two, in this order, and the standard library the last."""


class ConnectTimeoutError(TimeoutError):
    """No connection within the time given for it."""


class UnreachableError(OSError):
    """The server's name is unknown, or it cannot be connected to."""


class NoTLSError(OSError):
    """The server does not speak TLS, or no version that is spoken here."""


class CertificatesError(OSError):
    """The file of trusted certificates that the environment names cannot be used."""


def find_ca_file() -> str | None:
    """Return the file of certificates that the environment names, if it names one."""
    return next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), None)


def is_proxied(server: Server) -> bool:
    """Tell whether the environment names a proxy for what is sent to `server`."""
    return bool(getproxies().get(server.scheme)) and not proxy_bypass(server.netloc)


class Dialler:
    """Opens connections. Thread-safe."""

    def __init__(
        self, *, sockets: Sockets, connect_timeout_s: float, read_timeout_s: float
    ) -> None:
        self._sockets = sockets
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s

    def dial(self, server: Server) -> ByteStream:
        """Connect to `server`, with TLS if its scheme asks for it.

        Raises OSError, and ssl.SSLCertVerificationError if it is not known to be `server`.
        """
        plain = self._connect(server)
        try:
            stream = self._start_tls(plain, server) if server.scheme == "https" else plain
            stream.settimeout(self._read_timeout_s)
        except BaseException:
            plain.close()
            raise
        return stream

    def _connect(self, server: Server) -> socket.socket:
        try:
            plain = self._connect_to_any(server)
        except TimeoutError as exc:
            raise ConnectTimeoutError("no connection in time") from exc
        except UnicodeError as exc:  # of a host name that cannot be encoded
            raise UnreachableError("no such host") from exc
        except OSError as exc:
            raise UnreachableError(exc.strerror or str(exc)) from exc
        # Requests are small and answers are waited for: nothing is gained by holding back.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def _connect_to_any(self, server: Server) -> socket.socket:
        """Do what `socket.create_connection` does, with sockets that can be shut down meanwhile."""
        failure = OSError("its name stands for no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM
        ):
            try:
                plain = socket.socket(family, kind, protocol)
            except OSError as exc:  # of a family that this machine does not have
                failure = exc
                continue
            try:
                self._sockets.add(plain)
                plain.settimeout(self._connect_timeout_s)
                plain.connect(address)
            except OSError as exc:
                failure = exc
                plain.close()
            except BaseException:
                plain.close()
                raise
            else:
                return plain
        raise failure

    def _start_tls(self, plain: socket.socket, server: Server) -> ssl.SSLSocket:
        """Speak TLS over `plain`, and make sure that it is `server` at the other end."""
        try:
            stream = self._tls.wrap_socket(
                plain, server_hostname=server.host, do_handshake_on_connect=False
            )
            try:
                self._sockets.add(stream)
                stream.do_handshake()
            except BaseException:
                stream.close()
                raise
            return stream
        except TimeoutError as exc:
            raise ConnectTimeoutError("no TLS in time") from exc
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as exc:
            raise NoTLSError(exc.strerror or str(exc)) from exc

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        path = find_ca_file()
        try:
            return ssl.create_default_context(cafile=path)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise CertificatesError(f"{path or 'of the system'}: {reason}") from exc
