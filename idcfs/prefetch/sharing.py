"""One prefetch shared by several processes: who brings which series, and what they tell.

One thread of a process receives all small files, some 4,000 of 5 kB a second or 1 GB: as much as
two processors brought together where the store was on them too, so that there is one process for
two. Where that thread also hashes what comes, it takes more than twice as long: then one for each.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idcfs.cache import is_small
from idcfs.prefetch.processors import processor_count
from idcfs.prefetch.targets import Verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idcfs.model import Series, SeriesUUID
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.prefetch.outcome import Ending, Outcome

    Placed = tuple[Series, str]

MOST_PROCESSES: Final = 8
"""Found by itself. More would have thousands of connections to the store."""

_WORTH_BYTES: Final = 500 * 10**6
_WORTH_FILES: Final = 1000
"""What takes one process a second or more. Another one takes 0.3 s and 30 MB to begin."""

_HASHED_BYTES: Final = 128 << 10
"""Of larger files, to hash them takes longer than all the rest."""

_LOOK_S: Final = 0.2
"""How often who waits looks whether it is wanted any more."""


def process_count(request: PrefetchRequest, outcome: Outcome) -> int:
    """Return how many processes bring what `outcome` says is to come.

    One, where the network or the disk is what takes the time, and where batches are formed.
    """
    if request.streaming or request.from_dir or request.bytes_per_s:
        return 1
    count = request.processes
    if count is None:
        files, size_bytes = outcome.total_files, outcome.total_bytes
        is_worth_it = size_bytes >= _WORTH_BYTES or files >= _WORTH_FILES
        mean_bytes = size_bytes // max(files, 1)
        hashes = request.verify is Verify.FULL and mean_bytes >= _HASHED_BYTES
        each = 1 if hashes and is_small(mean_bytes) else 2
        count = min(max(processor_count() // each, 1), MOST_PROCESSES) if is_worth_it else 1
    return min(count, request.jobs or count)


@dataclass(frozen=True, slots=True)
class News:
    """What one process has done since it last told."""

    endings: tuple[Ending, ...] = ()
    listed: tuple[tuple[SeriesUUID, int], ...] = ()
    """Series, and how many files of each will end."""
    log: tuple[tuple[str, int, str], ...] = ()
    """Logger, level and words of what is to be logged."""
    bytes_under_way: int = 0
    extra_files: int = 0
    """By how much its listings exceed what the index says, so far."""
    extra_bytes: int = 0
    out_of_reach: bool = False
    """This and the next one as in the `Outcome`."""
    gave_up: str | None = None
    is_last: bool = False
    """It has ended in order."""


class Shares:
    """Hands out series, each once, to who asks next. Thread-safe.

    Those of one directory all go to the same taker, in their order, as it alone tells which of
    two has a file's name.
    """

    def __init__(self, placed: Iterator[Placed]) -> None:
        """`placed` is asked by one thread at a time."""
        self._placed = placed
        self._next: Placed | None = None
        self._directory: str | None = None
        """That of the last one, as long as it is somebody's, """
        self._owner = 0
        """and whose."""
        self._gone: set[int] = set()
        """Who asks no more."""
        self._is_closed = False
        self._changed = threading.Condition()
        self.failure: Exception | None = None
        """What `placed` raised: to all who take it looks like the end."""

    def of(self, taker: int, check: Callable[[], None] = lambda: None) -> Iterator[Placed]:
        """Return what one taker gets; `check` may raise while it waits."""
        while (placed := self.take(taker, check)) is not None:
            yield placed

    def take(self, taker: int, check: Callable[[], None] = lambda: None) -> Placed | None:
        """Return the next series; None when there are no more.

        Waits while the next ones belong to the directory of another taker.
        """
        with self._changed:
            while not self._is_closed:
                if taker in self._gone:
                    return None
                self._look()
                if self._next is None:
                    break
                if self._owner == taker or self._next[1] != self._directory:
                    placed, self._next = self._next, None
                    self._directory, self._owner = placed[1], taker
                    self._changed.notify_all()
                    return placed
                self._changed.wait(_LOOK_S)
                check()
            self._is_closed = True
            self._changed.notify_all()
            return None

    def _look(self) -> None:
        """Have the next one ready, if there is one."""
        if self._next is None:
            try:
                self._next = next(self._placed, None)
            except Exception as exc:
                self.failure = exc

    def leave(self, taker: int) -> None:
        """Give what is left of a taker's directory to the others: it gets nothing more."""
        with self._changed:
            self._gone.add(taker)
            if self._owner == taker:
                self._directory = None
            self._changed.notify_all()

    def close(self) -> None:
        """Give out nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
