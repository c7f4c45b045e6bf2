"""The processes that share one prefetch, as the one sees them that has begun it."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing import Pipe
from typing import TYPE_CHECKING

import trio

from idcfs.catalog.layouts import child_command
from idcfs.prefetch.job import bring_series
from idcfs.prefetch.outcome import Outcome, failed_series
from idcfs.prefetch.sharing import News, Shares
from idcfs.prefetch.stopping import noted_signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from idcfs.model import Series, SeriesUUID
    from idcfs.prefetch.carried import Layout
    from idcfs.prefetch.job import Observer, PrefetchRequest
    from idcfs.prefetch.outcome import Ending
    from idcfs.prefetch.report import Note

_OBSERVED_EVERY_S = 0.2


def bring_together(
    request: PrefetchRequest,
    placed: Iterator[tuple[Series, str]],
    outcome: Outcome,
    observe: Observer,
    layout: Layout,
    note: Note,
) -> None:
    """Do what `job.bring_series` does, in as many processes as `request` says.

    This one takes part. Of a process that is killed, what it had not brought has failed.
    """
    shares = Shares(placed)
    merged = _Merged(outcome, observe, note)
    own = Outcome(0, 0)
    count = request.processes or 1
    with ExitStack() as stack:
        companions = [
            stack.enter_context(_Companion(_part(request, number), number, shares, merged))
            for number in range(1, count)
        ]
        bring_series(
            _part(request, 0),
            shares.of(0, trio.from_thread.check_cancelled),
            own,
            merged.observe,
            layout,
            merged.note,
        )
        merged.hear(0, _told(own))
        outcome.interrupted |= own.interrupted
        with noted_signals(outcome):
            _wait_for(companions, shares, outcome, merged)


def _wait_for(
    companions: list[_Companion], shares: Shares, outcome: Outcome, merged: _Merged
) -> None:
    """Wait until all have ended, and end them early if there is a reason."""
    shares.leave(0)
    while True:
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


def _told(own: Outcome, bytes_under_way: int = 0) -> News:
    """Return the figures of this process as those that others tell."""
    return News(
        bytes_under_way=bytes_under_way,
        extra_files=own.total_files,
        extra_bytes=own.total_bytes,
        out_of_reach=own.out_of_reach,
        gave_up=own.gave_up,
    )


class _Merged:
    """What all of them together have done: the outcome, which only this changes. Thread-safe."""

    def __init__(self, outcome: Outcome, observe: Observer, note: Note) -> None:
        self._outcome = outcome
        self._observe = observe
        self._note = note
        self._files, self._bytes = outcome.total_files, outcome.total_bytes
        self._news: dict[int, News] = {}
        """The last of each process."""
        self._lock = threading.Lock()

    @property
    def is_ending(self) -> bool:
        """Tell whether what is left undone is known to be."""
        return self._outcome.interrupted or self._outcome.gave_up is not None

    def note(self, ending: Ending) -> None:
        """Count what became of a file."""
        with self._lock:
            self._outcome.count(ending)
            self._note(ending)

    def hear(self, number: int, news: News) -> None:
        """Take in what a process tells of itself."""
        for ending in news.endings:
            self.note(ending)
        with self._lock:
            self._news[number] = news
            told, outcome = self._news.values(), self._outcome
            outcome.total_files = self._files + sum(each.extra_files for each in told)
            outcome.total_bytes = self._bytes + sum(each.extra_bytes for each in told)
            outcome.out_of_reach |= news.out_of_reach
            outcome.gave_up = outcome.gave_up or news.gave_up

    def observe(self, own: Outcome, bytes_under_way: int) -> None:
        """Take in the figures of this process, and show those of all."""
        self.hear(0, _told(own, bytes_under_way))
        self.show()

    def show(self) -> None:
        """Show the figures. In the thread of who began the prefetch."""
        self._observe(
            self._outcome, sum(each.bytes_under_way for each in list(self._news.values()))
        )


class _Companion:
    """One of the other processes, and the two threads that serve it."""

    def __init__(
        self, request: PrefetchRequest, number: int, shares: Shares, merged: _Merged
    ) -> None:
        self._number = number
        self._shares = shares
        self._merged = merged
        self._left: dict[SeriesUUID, tuple[Series, int | None]] = {}
        """What it was given, and how many files of it have not ended, if the index says."""
        self._is_stopped = False
        self._lock = threading.Lock()
        self._feed, feed = Pipe()
        news, self._news = Pipe(duplex=False)
        self._process = _start(feed, self._news)
        feed.close()
        self._news.close()
        self._feed.send((request, logging.getLogger().getEffectiveLevel()))
        self._threads = [
            threading.Thread(target=self._give, daemon=True),
            threading.Thread(target=self._listen, args=[news], daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> _Companion:
        return self

    def __exit__(self, *_: object) -> None:
        self._shares.close()
        self.stop()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    @property
    def is_running(self) -> bool:
        """Tell whether there may be news of it."""
        return self._threads[1].is_alive()

    def wait(self, seconds: float) -> None:
        """Wait until there will be no more news, but not for longer."""
        self._threads[1].join(seconds)

    def stop(self) -> None:
        """Have it end in order."""
        if not self._is_stopped:
            self._is_stopped = True
            self._process.terminate()

    def _give(self) -> None:
        """Give it the next series whenever it asks."""
        with self._feed, suppress(EOFError, OSError):
            while True:
                self._feed.recv()
                placed = self._shares.take(self._number)
                if placed is not None:
                    with self._lock:
                        self._left[placed[0].uuid] = (placed[0], placed[0].instance_count)
                self._feed.send(placed)

    def _listen(self, news: Connection) -> None:
        """Take in what it tells, until it has ended."""
        told = News()
        with news, suppress(EOFError, OSError):
            while True:
                told = news.recv()
                for name, level, words in told.log:
                    logging.getLogger(name).log(level, "%s", words)
                self._tick_off(told)
                self._merged.hear(self._number, told)
                if told.gave_up is not None:  # what it met, others would meet too
                    self._shares.close()
        status = self._process.wait()
        self._shares.leave(self._number)
        self._merged.hear(self._number, replace(told, endings=(), log=(), bytes_under_way=0))
        if not (told.is_last or self._merged.is_ending):
            self._give_up(status)

    def _tick_off(self, told: News) -> None:
        with self._lock:
            for ending in told.endings:
                series, count = self._left.get(ending.series, (None, None))
                if series is None or count is None:
                    continue
                self._left[series.uuid] = (series, count - ending.file_count)
                if count <= ending.file_count:
                    del self._left[series.uuid]

    def _give_up(self, status: int) -> None:
        """Call a failure what it was given and has not brought."""
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        reason = f"the process that brought it was ended {how}; the same command goes on from here"
        with self._lock:
            for series, count in self._left.values():
                self._merged.note(failed_series(series, reason, count or 0))


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
