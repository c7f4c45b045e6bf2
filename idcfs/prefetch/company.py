"""The processes that share one prefetch, as the one sees them that has begun it."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from typing import TYPE_CHECKING

import trio

from idcfs.catalog.layouts import child_command
from idcfs.prefetch.job import bring_series
from idcfs.prefetch.merged import Merged, told_by
from idcfs.prefetch.outcome import Outcome, failed_series
from idcfs.prefetch.sharing import News, Shares
from idcfs.prefetch.stopping import noted_signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from idcfs.model import Series, SeriesUUID
    from idcfs.prefetch.carried import Layout
    from idcfs.prefetch.job import Observer, PrefetchRequest
    from idcfs.prefetch.report import Note

logger = logging.getLogger(__name__)

_OBSERVED_EVERY_S = 0.2

_IN_ORDER_S = 5.0
"""How long another process may take to end in order. One that is stopped, or hangs, never does."""

_LOGGERS = ("", "botocore", "urllib3")
"""The root, and those that a command silences more."""


def bring_together(
    request: PrefetchRequest,
    placed: Iterator[tuple[Series, str]],
    outcome: Outcome,
    observe: Observer,
    layout: Layout,
    note: Note,
) -> None:
    """Do what `job.bring_series` does, in as many processes as `request` says.

    This one takes part. Of a process that is killed, what it had not brought has failed. Raises
    what `placed` raises.
    """
    shares = Shares(placed)
    merged = Merged(outcome, observe, note)
    own = Outcome(0, 0)
    ends_at_second = request.ends_at_second_signal
    with noted_signals(own, ends_at_second=ends_at_second), ExitStack() as stack:
        companions = _start_some((request.processes or 1) - 1, stack, shares, merged)
        request = replace(request, processes=len(companions) + 1)
        for number, each in enumerate(companions, 1):
            each.serve(_part(request, number))
        bring_series(
            _part(request, 0),
            shares.of(0, trio.from_thread.check_cancelled),
            own,
            merged.observe,
            layout,
            merged.note,
        )
        merged.hear(0, told_by(own))
        _wait_for(companions, shares, own, outcome, merged)
    outcome.interrupted |= own.interrupted
    if shares.failure is not None:
        raise shares.failure
    # Only now it is known whether they were to end: a signal to all of them may meet others first.
    if not (outcome.interrupted or outcome.gave_up):
        for each in companions:
            each.note_left()


def _start_some(count: int, stack: ExitStack, shares: Shares, merged: Merged) -> list[_Companion]:
    """Start other processes, or as many as the machine lets us."""
    companions: list[_Companion] = []
    try:
        while len(companions) < count:
            number = len(companions) + 1
            companions.append(stack.enter_context(_Companion(number, shares, merged)))
    except OSError as exc:
        logger.warning(
            "cannot start process %d of %d (%s); going on with fewer",
            len(companions) + 2,
            count + 1,
            exc.strerror,
        )
    return companions


def _wait_for(
    companions: list[_Companion], shares: Shares, own: Outcome, outcome: Outcome, merged: Merged
) -> None:
    """Wait until all have ended, and end them early if there is a reason."""
    shares.leave(0)
    while True:
        outcome.interrupted |= own.interrupted
        if outcome.interrupted or outcome.gave_up:
            shares.close()
            for each in companions:
                each.stop()
        merged.show()
        if not any(each.is_running for each in companions):
            return
        next(each for each in companions if each.is_running).wait(_OBSERVED_EVERY_S)


def _part(request: PrefetchRequest, number: int) -> PrefetchRequest:
    """Return what one of the processes is asked."""
    count, jobs = request.processes or 1, request.jobs
    if jobs is not None:
        jobs = jobs // count + (number < jobs % count)
    return replace(request, jobs=jobs, report_path=None)


@dataclass(slots=True)
class _Left:
    """A series, and how many files of it have not ended."""

    series: Series
    files: int
    """What the index says, until it is listed."""
    is_listed: bool = False


class _Companion:
    """One of the other processes, and the two threads that serve it."""

    def __init__(self, number: int, shares: Shares, merged: Merged) -> None:
        """Start it. Raises OSError."""
        self._number = number
        self._shares = shares
        self._merged = merged
        self._left: dict[SeriesUUID, _Left] = {}
        """What it was given and has not ended."""
        self._threads: list[threading.Thread] = []
        self._ended_well = False
        self._stopped_at_s: float | None = None
        self._lock = threading.Lock()
        self._feed, feed = Pipe()
        self._news, news = Pipe(duplex=False)
        with feed, news:
            self._process = _start(feed, news)

    def serve(self, request: PrefetchRequest) -> None:
        """Have it begin."""
        self._threads = [
            threading.Thread(target=self._give, args=[request], daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> _Companion:
        return self

    def __exit__(self, *_: object) -> None:
        self._shares.close()
        while self.is_running:
            self.stop()
            self.wait(_OBSERVED_EVERY_S)

    @property
    def is_running(self) -> bool:
        """Tell whether there may be news of it."""
        return any(each.is_alive() for each in self._threads)

    def wait(self, seconds: float) -> None:
        """Wait until there will be no more news, but not for longer."""
        next((each for each in self._threads if each.is_alive()), self._threads[-1]).join(seconds)

    def stop(self) -> None:
        """Have it end in order or, if it does not, at once. To be called until it has ended."""
        now_s = time.monotonic()
        if self._stopped_at_s is None:
            self._stopped_at_s = now_s
            self._process.terminate()
        elif now_s - self._stopped_at_s > _IN_ORDER_S:
            self._process.kill()

    def _give(self, request: PrefetchRequest) -> None:
        """Give it the next series whenever it asks."""
        with self._feed, suppress(EOFError, OSError):
            self._feed.send((request, _levels()))
            while True:
                self._feed.recv()
                placed = self._shares.take(self._number)
                if placed is not None:
                    with self._lock:
                        self._left[placed[0].uuid] = _Left(placed[0], placed[0].instance_count or 0)
                self._feed.send(placed)

    def _listen(self) -> None:
        """Take in what it tells, until it has ended."""
        told = News()
        with self._news, suppress(EOFError, OSError):
            while True:
                told = self._news.recv()
                for name, level, words in told.log:
                    logging.getLogger(name).log(level, "%s", words)
                self._tick_off(told)
                self._merged.hear(self._number, told)
                if told.gave_up is not None:  # what it met, others would meet too
                    self._shares.close()
        self._process.wait()
        self._shares.leave(self._number)
        self._merged.hear(self._number, replace(told, endings=(), log=(), bytes_under_way=0))
        self._ended_well = told.is_last

    def _tick_off(self, told: News) -> None:
        with self._lock:
            for uuid, count in told.listed:
                if left := self._left.get(uuid):
                    left.files += count - (left.series.instance_count or 0)
                    left.is_listed = True
            for ending in told.endings:
                if left := self._left.get(ending.series):
                    left.files -= ending.file_count
            for uuid in {each[0] for each in told.listed} | {each.series for each in told.endings}:
                if (left := self._left.get(uuid)) and left.is_listed and left.files <= 0:
                    del self._left[uuid]

    def note_left(self) -> None:
        """Call a failure what it was given and has not brought. Once it has ended."""
        if self._ended_well:
            return
        status = self._process.returncode
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        reason = f"the process that brought it was ended {how}; the same command goes on from here"
        for left in self._left.values():
            self._merged.note(failed_series(left.series, reason, left.files))


def _levels() -> dict[str, int]:
    """Return from which level on messages are wanted, by logger."""
    return {name: logging.getLogger(name).getEffectiveLevel() for name in _LOGGERS}


def _start(feed: Connection, news: Connection) -> subprocess.Popen[bytes]:
    """Start the process. It inherits that SIGINT is blocked; SIGTERM is how it is stopped."""
    command, environment = child_command("idcfs.prefetch.companion")
    descriptors = (feed.fileno(), news.fileno())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            [*command, *map(str, descriptors)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=descriptors,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
