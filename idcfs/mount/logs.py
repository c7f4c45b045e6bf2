"""Where a daemon logs, how long logs are kept, and what keeps one problem from filling them."""

from __future__ import annotations

import hashlib
import logging
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

logger = logging.getLogger(__name__)

_LOG_BYTES = 5 << 20

_KEPT_S = 30 * 86_400.0
"""How long the log of a mount that is no more is kept."""

_WINDOW_S = 60.0
_LINES_PER_WINDOW = 20
"""Of one kind of problem. Each failed request is a line, and a script over a million files
does not stop for a network that is down."""


def log_path(directory: Path, mountpoint: Path) -> Path:
    """Return where the daemon of a mount point logs to: its name, and a hash of its path."""
    digest = hashlib.sha256(str(mountpoint).encode(errors="surrogateescape")).hexdigest()[:8]
    name = mountpoint.name.encode(errors="surrogateescape")[:200].decode(errors="replace")
    return directory / f"{name or 'root'}-{digest}.log"


def open_log(path: Path, mounted: Iterable[Path]) -> logging.Handler:
    """Open a log of bounded size, and remove those of mounts long gone beside it.

    `mounted` are the mount points in use, whose logs stay however old. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {log_path(path.parent, each).name for each in mounted} | {path.name}
    for old in path.parent.glob("*.log*"):
        if old.name.partition(".log")[0] + ".log" not in kept:
            with suppress(OSError):  # another mount is at it too
                if time.time() - old.stat().st_mtime > _KEPT_S:
                    old.unlink()
    return RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1)


@dataclass(slots=True)
class _Window:
    began_s: float
    lines: int = 0
    left_out: int = 0


class FloodFilter(logging.Filter):
    """Lets so many lines of one kind through in a minute, and then says how many were left out.

    A kind is what one place in the program says, whatever it says it of.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[tuple[str, int], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is to be logged."""
        if record.levelno < logging.WARNING:
            return True  # nobody gets these without asking
        now = self._clock()
        window = self._windows.setdefault((record.pathname, record.lineno), _Window(now))
        if now - window.began_s >= _WINDOW_S:
            if window.left_out:
                left_out = f"({window.left_out:,} more like this one were left out before)"
                record.msg, record.args = f"{record.getMessage()} {left_out}", ()
            window.began_s, window.lines, window.left_out = now, 0, 0
        window.lines += 1
        if window.lines <= _LINES_PER_WINDOW:
            return True
        window.left_out += 1
        return False


async def switch_level_at_signals(*, task_status: trio.TaskStatus[None]) -> None:
    """Log everything from SIGUSR1 on, and from SIGUSR2 on what was logged at first."""
    root = logging.getLogger()
    at_first = root.level
    with trio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        task_status.started()
        async for number in signals:
            root.setLevel(logging.DEBUG)
            if number == signal.SIGUSR1:
                logger.info("logging everything; SIGUSR2 ends it")
            else:
                logger.info("logging %s and worse again", logging.getLevelName(at_first).lower())
                root.setLevel(at_first)
