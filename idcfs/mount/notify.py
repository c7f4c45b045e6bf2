"""Tells the service manager how the mount fares: the datagrams of sd_notify(3).

Own lines rather than a library: the protocol is `KEY=value` lines in a datagram to the
socket that `$NOTIFY_SOCKET` names, and without that variable nobody wants to know.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.mount.question import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from idcfs.mount.question import Told

logger = logging.getLogger(__name__)

_FEEDS_PER_TIMEOUT = 3
"""One feed may come late, and the next is still in time."""


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Whoever started this process and wants to be told; nobody, if there is no socket."""

    socket_name: str | None = None
    watchdog_s: float | None = None
    """The manager ends a service that has not fed its watchdog for so long."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ServiceManager:
        """Return what the manager said in `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `_PID`."""
        name = environment.get("NOTIFY_SOCKET", "")
        if not name.startswith(("/", "@")):
            return cls()
        microseconds = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if not (meant and microseconds.isdecimal() and int(microseconds)):
            return cls(name)
        return cls(name, int(microseconds) / 1e6)

    def ready(self, status: str) -> None:
        """Say that the mount answers."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say in one line how things are."""
        self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Say that the mount is being taken down."""
        self._send("STOPPING=1\nSTATUS=unmounting")

    async def feed_watchdog(self, ask: Callable[[float], Awaitable[Told]]) -> None:
        """Feed the watchdog as long as the mount answers; return at once if there is none.

        `ask` asks it, and has so many seconds' patience (`Probe.ask`). An answer that is an
        error starves it, and one that does not come. Where nobody can be sent to ask, that this
        task runs has to do.
        """
        if self.watchdog_s is None:
            return
        while True:
            # Who gets no answer for so long has been ended by then.
            answer, reason = await ask(self.watchdog_s)
            if answer in {Answer.GIVEN, Answer.UNKNOWN}:
                self._send("WATCHDOG=1")
            else:
                logger.warning("the mount does not answer: %s", reason)
            await trio.sleep(self.watchdog_s / _FEEDS_PER_TIMEOUT)

    def _send(self, message: str) -> None:
        if self.socket_name is None:
            return
        name = self.socket_name
        if name.startswith("@"):  # which stands for the zero byte of names outside all file systems
            name = "\0" + name[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
                end.sendto(message.encode(), name)
        except OSError as exc:  # the mount is worth more than word of it
            logger.warning("cannot tell the service manager: %s", exc.strerror)


def _line(text: str) -> str:
    return " ".join(text.split())
