"""Lists a wide prefix in slices, which can be asked for at the same time.

The names of IDC's objects are random UUIDs in lower-case hex, so slices of the first
digits are of nearly the same size. Only the time depends on that: each slice is followed
from page to page until it ends, whatever the names are.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idcfs.store.pages import Page
    from idcfs.store.protocol import StoredObject

    Ask = Callable[[str | None, str | None], Page]
    """Asks for a page, given the key that it starts after and a continuation token."""

logger = logging.getLogger(__name__)

_PAGE_KEYS = 1000
"""What one request brings at most."""

_SLICE_KEYS = 880
"""What a slice shall hold: as many as leave hardly one in 10,000 with a second page, at a
standard deviation of 30."""

_MOST_SLICES = 4096
_MOST_PAGES = 1000
"""A listing of a million objects is refused: the widest series of IDC has 91,980, so a
server which goes on is broken or hostile."""


class UnorderedError(Exception):
    """The server does not list in the order of keys, or not from where it was asked to."""


class EndlessError(Exception):
    """The server's listing does not end."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The keys after `start` up to and including `end`; None where there is no bound."""

    start: str | None = None
    end: str | None = None


def cut(prefix: str, expected: int | None) -> list[Slice]:
    """Return slices that together hold every key once, as many as `expected` keys need."""
    if expected is None or expected <= _PAGE_KEYS:
        return [Slice()]
    count = min(-(-expected // _SLICE_KEYS), _MOST_SLICES)
    bounds = [f"{prefix}{number * 65536 // count:04x}" for number in range(1, count)]
    return [Slice(start, end) for start, end in pairwise([None, *bounds, None])]


def walk(one: Slice, ask: Ask) -> Iterator[StoredObject]:
    """Ask for the pages of a slice and yield what belongs to it.

    Without bounds, they may come in any order. Raises UnorderedError, EndlessError, and
    what `ask` raises.
    """
    is_bounded = one != Slice()
    token: str | None = None
    seen_tokens: set[str] = set()
    last = one.start or ""
    for _ in range(_MOST_PAGES):
        page = ask(one.start if token is None else None, token)
        for stored in page.objects:
            if is_bounded and stored.key <= last:
                raise UnorderedError(stored.key)
            if one.end is not None and stored.key > one.end:
                return
            last = stored.key
            yield stored
        token = page.next_token
        if token is None:
            return
        if token in seen_tokens:
            raise EndlessError("repeats a page for ever")
        seen_tokens.add(token)
    raise EndlessError(f"does not end after {_MOST_PAGES} pages")


class Walking:
    """Walks slices in several threads, each of which takes one slice after another."""

    def __init__(self, slices: list[Slice], ask: Ask) -> None:
        self._ask = ask
        self._found: list[list[StoredObject]] = [[] for _ in slices]
        self._todo = iter(list(enumerate(slices)))
        self._left = len(slices)
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._settled = threading.Event()

    def start_thread(self, done: Callable[[], object]) -> bool:
        """Have one more thread walk, which calls `done` at its end. Tell if there is one to be had.

        A container may have a limit of threads. Those that walk already do it all then.
        """

        def run() -> None:
            try:
                self._work()
            finally:
                done()

        # A daemon: nobody who gave up on the listing shall wait for it, not even at exit.
        try:
            threading.Thread(target=run, name="idcfs-listing", daemon=True).start()
        except RuntimeError as exc:
            logger.debug("listing with fewer threads: %s", exc)
            return False
        return True

    def finish(self) -> list[StoredObject]:
        """Walk too, and return what all have found.

        Raises the first error at once: the requests of others then end by themselves.
        """
        self._work()
        self._settled.wait()
        if self._failure is not None:
            raise self._failure
        return [stored for found in self._found for stored in found]

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            number, one = taken
            try:
                self._found[number] += walk(one, self._ask)
            except BaseException as exc:
                self._failure = exc
                self._settled.set()
            else:
                self._note_end()

    def _take(self) -> tuple[int, Slice] | None:
        with self._lock:
            return None if self._settled.is_set() else next(self._todo, None)

    def _note_end(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._settled.set()
