"""Stands in for a service manager: the socket that it listens on."""

from __future__ import annotations

import socket
from typing import Self

from tests.support.mounting import DEADLINE_S


class NoticeSocket:
    """A datagram socket like the manager's, for a `with` block."""

    def __init__(self, name: str) -> None:
        """Listen at a path, or with `@` in front at a name outside the file system."""
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE_S)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)

    def next(self) -> dict[str, str]:
        """Wait for the next notice and return what it says."""
        lines = self._socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def next_with(self, key: str) -> dict[str, str]:
        """Return the next notice that says anything about `key`, passing over others."""
        while key not in (notice := self.next()):
            pass
        return notice

    def is_silent(self) -> bool:
        """Tell whether nothing has come that was not taken."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(DEADLINE_S)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()
