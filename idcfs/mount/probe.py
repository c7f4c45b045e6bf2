"""Has a daemon find out whether its own mount answers, without asking itself."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from idcfs.mount.question import (
    ENVIRONMENT,
    Answer,
    Told,
    command,
    find_program,
    judge,
    missing,
    reason_file,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


class Probe:
    """Asks one mount as `mount.question` does. On the trio thread.

    Make it before the mount is there: the search for `program`, `stat`, could lead into it.
    """

    def __init__(self, mountpoint: Path, *, program: str | None = None) -> None:
        self._mountpoint = mountpoint
        self._program = program or find_program()
        self._waiting: set[trio.Process] = set()
        """Those that were given up. Not even SIGKILL ends one before its request is answered."""

    async def ask(self, patience_s: float) -> Told:
        """Ask for `statfs`, which the kernel never answers by itself.

        Nobody is asked anew as long as a question that was given up is in the kernel still.
        """
        self._waiting = {process for process in self._waiting if process.poll() is None}
        if self._waiting:
            with trio.move_on_after(patience_s):
                await next(iter(self._waiting)).wait()
            return missing(patience_s)
        try:
            with reason_file() as reason:
                process = await self._start(reason)
                status = await self._wait(process, patience_s)
                if status is None:
                    return missing(patience_s)
                return judge(status, reason)
        except (OSError, RuntimeError) as exc:  # no program, process, thread or memory to be had
            return Told(Answer.UNKNOWN, str(exc))

    async def _start(self, reason: BinaryIO) -> trio.Process:
        return await trio.lowlevel.open_process(
            command(self._program, self._mountpoint),
            env=ENVIRONMENT,
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
