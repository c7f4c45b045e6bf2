"""What the processes of a shared prefetch have done, taken together."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from idcfs.prefetch.sharing import News

if TYPE_CHECKING:
    from idcfs.prefetch.job import Observer
    from idcfs.prefetch.outcome import Ending, Outcome
    from idcfs.prefetch.report import Note


def told_by(own: Outcome, bytes_under_way: int = 0) -> News:
    """Return the figures of this process as those that others tell."""
    return News(
        bytes_under_way=bytes_under_way,
        extra_files=own.total_files,
        extra_bytes=own.total_bytes,
        out_of_reach=own.out_of_reach,
        gave_up=own.gave_up,
    )


class Merged:
    """What all of them together have done: the outcome, which only this changes. Thread-safe."""

    def __init__(self, outcome: Outcome, observe: Observer, note: Note) -> None:
        self._outcome = outcome
        self._observe = observe
        self._note = note
        self._files, self._bytes = outcome.total_files, outcome.total_bytes
        self._news: dict[int, News] = {}
        """The last of each process."""
        self._lock = threading.Lock()

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
        self.hear(0, told_by(own, bytes_under_way))
        self.show()

    def show(self) -> None:
        """Show the figures. In the thread of who began the prefetch."""
        self._observe(
            self._outcome, sum(each.bytes_under_way for each in list(self._news.values()))
        )
