"""Runs a command on each series that has come whole, and remembers where it ended well."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from idcfs.errors import UsageError
from idcfs.prefetch.outcome import failed_series

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from idcfs.model import Listing, Series
    from idcfs.prefetch.batches import Streaming
    from idcfs.prefetch.outcome import Outcome
    from idcfs.prefetch.report import Note

    Finished = Callable[[Series, str, Listing], None]
    """Told of each series that is there whole, with its directory."""

_ENDING_S = 10.0
"""How long a command may take to end once it was told to."""


class Done:
    """The series on which a command has ended well: a file of their UUIDs, one a line.

    It lies hidden in the download directory, one for each command.
    """

    def __init__(self, root: Path, command: str) -> None:
        """Raises UsageError if the file cannot be read."""
        mark = hashlib.sha256(command.encode(errors="surrogateescape")).hexdigest()[:16]
        self.path = root / f".idcfs-done-{mark}"
        try:
            self._series = set(self.path.read_text(errors="replace").splitlines())
        except FileNotFoundError:
            self._series = set()
        except OSError as exc:
            raise UsageError(f"cannot read {self.path}: {exc.strerror}") from exc

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._series

    def add(self, uuid: str) -> None:
        """Remember a series. Raises OSError."""
        with self.path.open("a") as file:
            file.write(f"{uuid}\n")


class SeriesCommands:
    """Runs the command, one at a time, in the order in which series come. On the trio thread."""

    def __init__(
        self, streaming: Streaming, root: Path, done: Done, outcome: Outcome, note: Note
    ) -> None:
        self._streaming = streaming
        self._root = root
        self._done = done
        self._outcome = outcome
        self._note = note
        self._scope = trio.CancelScope()
        self._ending: trio.Process | None = None

    def stop(self) -> None:
        """End the command that runs, and start no other. Told again, kill it."""
        self._scope.cancel()
        if self._ending is not None:
            _send(self._ending, signal.SIGKILL)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Finished]:
        """Give what takes series; the end of the block waits until the command has seen all."""
        to_run, finished = trio.open_memory_channel[tuple["Series", str, "Listing"]](float("inf"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, finished)

            def take(series: Series, directory: str, listing: Listing) -> None:
                self._outcome.commands_left += 1
                # A file that was on its way when all was stopped may still end its series.
                with suppress(trio.BrokenResourceError):
                    to_run.send_nowait((series, directory, listing))

            with to_run:
                yield take

    async def _serve(
        self, finished: trio.MemoryReceiveChannel[tuple[Series, str, Listing]]
    ) -> None:
        with self._scope, finished:
            async for series, directory, listing in finished:
                await self._handle(series, self._root / directory, listing)

    async def _handle(self, series: Series, directory: Path, listing: Listing) -> None:
        try:
            status = await self._run(series, directory)
            if status == 0:
                if self._streaming.removes:
                    await trio.to_thread.run_sync(self._remove, directory, listing)
                self._done.add(series.uuid)
                self._outcome.commands_done += 1
                self._outcome.commands_left -= 1
                return
            ended = f"status {status}" if status > 0 else f"signal {-status}"
            reason = f"the command ended with {ended}; its files stay in {directory}"
        except OSError as exc:
            reason = f"{exc.filename or self._streaming.command}: {exc.strerror}"
        self._outcome.commands_failed += 1
        self._outcome.commands_left -= 1
        ending = failed_series(series, reason, 0, str(directory))
        self._outcome.count(ending)
        self._note(ending)

    async def _run(self, series: Series, directory: Path) -> int:
        """Return the status, negative for a signal. When cancelled the command is ended first."""
        process = await trio.run_process(
            self._streaming.command,
            shell=True,
            stdin=subprocess.DEVNULL,
            check=False,
            env={**os.environ, "SERIES_DIR": str(directory), "SERIES_UUID": series.uuid},
            start_new_session=True,  # Ctrl-C comes by `stop`, to all that the shell has started
            deliver_cancel=self._end,
        )
        return process.returncode

    async def _end(self, process: trio.Process) -> None:
        self._ending = process
        _send(process, signal.SIGTERM)
        await trio.sleep(_ENDING_S)
        _send(process, signal.SIGKILL)

    def _remove(self, directory: Path, listing: Listing) -> None:
        """Remove the series' files, and what directories that leaves empty. Raises OSError."""
        for instance in listing.instances:
            (directory / instance.name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or gone
            while directory != self._root:
                directory.rmdir()
                directory = directory.parent


def _send(process: trio.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
