"""What another process of a shared prefetch does: a prefetch of the series that it is given.

Run as `python -m idcfs.prefetch.companion FEED NEWS`, two descriptors of connections to the
process that began it, which keeps SIGINT from this one: at a terminal it meets both, and that
one decides. Over the first come the request and then, one for each that is asked for,
series; over the second go `News`.
"""

from __future__ import annotations

import logging
import sys
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from idcfs.errors import IdcfsError
from idcfs.fetch.collector import collect_rarely
from idcfs.prefetch import patience
from idcfs.prefetch.job import bring_series
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.sharing import News

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Series, SeriesUUID
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.prefetch.outcome import Ending

_INTERRUPTED = 130

_MOST_LINES = 1000
"""Of the log, kept between two tellings."""


class _Teller(logging.Handler):
    """Collects what is to be told, and tells it whenever the figures are shown."""

    def __init__(self, news: Connection) -> None:
        super().__init__()
        self._news = news
        self._endings: list[Ending] = []
        self._listed: list[tuple[SeriesUUID, int]] = []
        self._lines: list[tuple[str, int, str]] = []
        self.setFormatter(logging.Formatter())
        self.addFilter(_is_for_this_one_to_tell)

    def note(self, ending: Ending) -> None:
        """Tell of a file. On the trio thread, as is `tell`."""
        self._endings.append(ending)

    def note_listed(self, series: Series, file_count: int) -> None:
        """Tell of a series that has been listed. On the trio thread."""
        self._listed.append((series.uuid, file_count))

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a line of the log: message and traceback, the rest others add. In any thread."""
        if len(self._lines) < _MOST_LINES:
            self._lines.append((record.name, record.levelno, self.format(record)))

    def tell(self, outcome: Outcome, bytes_under_way: int, *, is_last: bool = False) -> None:
        """Raises OSError if nobody listens any more."""
        endings, self._endings = self._endings, []
        listed, self._listed = self._listed, []
        with self.lock or nullcontext():  # that `emit` is called under
            lines, self._lines = self._lines, []
        self._news.send(
            News(
                tuple(endings),
                tuple(listed),
                tuple(lines),
                bytes_under_way,
                outcome.total_files,
                outcome.total_bytes,
                outcome.out_of_reach,
                outcome.gave_up,
                is_last,
            )
        )


def _is_for_this_one_to_tell(record: logging.LogRecord) -> bool:
    """Leave out that nothing comes: an outage meets all, and who began the prefetch tells of it."""
    return record.name != patience.logger.name or record.levelno < logging.WARNING


def main() -> int:
    """Bring what is given, and return the exit status."""
    collect_rarely()
    feed, news = (Connection(int(descriptor)) for descriptor in sys.argv[1:3])
    request: PrefetchRequest
    levels: dict[str, int]
    try:
        request, levels = feed.recv()
    except (EOFError, OSError):  # it has gone already
        return 1
    teller, outcome = _Teller(news), Outcome(0, 0)
    logging.basicConfig(handlers=[teller])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        bring_series(
            request,
            _given(feed),
            outcome,
            teller.tell,
            lambda: iter(()),
            teller.note,
            teller.note_listed,
        )
        teller.tell(outcome, 0, is_last=not outcome.interrupted)
        return _INTERRUPTED if outcome.interrupted else 0
    except IdcfsError as exc:
        outcome.gave_up = str(exc)
        with suppress(OSError):  # nobody may be there any more
            teller.tell(outcome, 0, is_last=True)
        return 1
    except (OSError, BaseExceptionGroup) as exc:
        if _is_alone(exc):
            return 1
        raise


def _given(feed: Connection) -> Iterator[tuple[Series, str]]:
    """Ask for one series after another, each as late as possible."""
    try:
        while True:
            feed.send(None)
            if (placed := feed.recv()) is None:
                return
            yield placed
    except (EOFError, OSError):  # nobody is there any more, which `tell` meets too
        return


def _is_alone(exc: BaseException) -> bool:
    """Tell whether the other process has gone, which then nobody need be told of."""
    if isinstance(exc, BaseExceptionGroup):
        return all(_is_alone(each) for each in exc.exceptions)
    return isinstance(exc, (BrokenPipeError, ConnectionResetError))


if __name__ == "__main__":
    sys.exit(main())
