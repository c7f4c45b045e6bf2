"""Asks a mount, from outside, whether it answers: as any user's program would.

The daemon must not ask itself. Where it is killed while the kernel waits for its answer to a
question of its own, its thread cannot die before the answer comes, the connection not end before
the thread has died, and everybody who uses the mount waits for ever with it. A process of its own
may be left to wait: it gets an error when the daemon is gone.
"""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import trio

if TYPE_CHECKING:
    from pathlib import Path

_REFUSED = 1
"""The exit status by which `stat` says that it got an error; others say that it was prevented."""

_REASON_BYTES = 500


class Answer(enum.Enum):
    """What came of a question."""

    GIVEN = "the mount answers"
    REFUSED = "it answers with an error, or its connection has ended"
    MISSING = "nothing came in time"
    UNKNOWN = "it could not be asked"


class Told(NamedTuple):
    """An answer, and in a few words why it is none."""

    answer: Answer
    reason: str = ""


class Probe:
    """Asks one mount. On the trio thread; make it before the mount is there.

    `program` is coreutils' or busybox's `stat`, which takes a millisecond or two; Python would
    take as long as many requests. It is looked for before there is a mount, since the search
    could lead there.
    """

    def __init__(self, mountpoint: Path, *, program: str | None = None) -> None:
        self._mountpoint = mountpoint
        self._program = program or shutil.which("stat", path=os.defpath) or shutil.which("stat")
        self._waiting: set[trio.Process] = set()
        """Those that were given up. Not even SIGKILL ends one before its request is answered."""

    async def ask(self, patience_s: float) -> Told:
        """Ask for `statfs`, which the kernel never answers by itself.

        Nobody is asked anew as long as a question that was given up is in the kernel still.
        """
        missing = Told(Answer.MISSING, f"no answer within {patience_s:.0f} s")
        self._waiting = {process for process in self._waiting if process.poll() is None}
        if self._waiting:
            with trio.move_on_after(patience_s):
                await next(iter(self._waiting)).wait()
            return missing
        try:
            # Not a pipe: nobody has to read it, whoever is left behind.
            with os.fdopen(os.memfd_create("reason"), "w+b") as reason:
                process = await self._start(reason.fileno())
                status = await self._wait(process, patience_s)
                if status is None:
                    return missing
                return _judge(status, os.pread(reason.fileno(), _REASON_BYTES, 0))
        except (OSError, RuntimeError) as exc:  # no program, process, thread or memory to be had
            return Told(Answer.UNKNOWN, str(exc))

    async def _start(self, reason: int) -> trio.Process:
        if self._program is None:
            raise FileNotFoundError("there is no program `stat`")
        return await trio.lowlevel.open_process(
            [self._program, "-f", "--", os.fspath(self._mountpoint)],
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=reason,
        )

    async def _wait(self, process: trio.Process, patience_s: float) -> int | None:
        """Return how a process ended; None if it did not in time, which it is left to."""
        try:
            with trio.move_on_after(patience_s):
                return await process.wait()
            return None
        finally:
            if process.poll() is None:
                with suppress(OSError):
                    process.kill()
                self._waiting.add(process)


def _judge(status: int, printed: bytes) -> Told:
    if status == 0:
        return Told(Answer.GIVEN)
    message = printed.decode(errors="replace").strip()
    if status == _REFUSED:  # "stat: cannot read file system information for 'X': Reason"
        return Told(Answer.REFUSED, message.rpartition(": ")[2])
    return Told(Answer.UNKNOWN, message or f"stat ended with {status}")
