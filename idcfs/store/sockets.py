"""The sockets of one store, so that all can be shut down at once, whoever waits for them."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from weakref import WeakSet


class Sockets:
    """Sockets in use or idle. Those that were closed need not be taken out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: WeakSet[socket.socket] = WeakSet()
        self._is_shut = False

    def add(self, one: socket.socket) -> None:
        """Take in a new one. Once all were shut down, closes it and raises OSError."""
        with self._lock:
            if self._is_shut:
                one.close()
                raise ConnectionAbortedError("the object store was closed")
            self._all.add(one)

    def shut(self) -> None:
        """End all that is waited for, connecting too, and let nothing new begin."""
        with self._lock:
            self._is_shut = True
            for one in self._all:
                # Not the method of TLS, which would have who reads go on without it.
                with suppress(OSError):  # it is closed, or not connected yet
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
