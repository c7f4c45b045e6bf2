"""Which files of a series are fetched before they are asked for: a policy, without any I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HEAD_BYTES = 128 << 10
"""What is fetched of a file whose header is all that will be read: the kernel's readahead."""

_HEAD_LIMIT_BYTES = 256 << 10
"""Reading that ends within so much was after the header."""

_REMEMBERED = 4
"""Files whose reading decides how much is fetched of the next ones."""

_NEAR_FILES = 16
"""Readers that go through a directory together, in order, are not further apart."""

_FIRST_FILES = 4
"""Fetched ahead when the first file of a directory is read: a walk begins there."""

_FILES_A_STEP = 8
"""The window grows by so many for each file that was read in order."""

_WINDOW_FILES = 64
"""The largest window in order: more than the transfers that run at once."""

_SCATTERED_FILES = 4
"""Files of a series that are read in no order before others are fetched ahead of them."""

_WINDOW_BYTES = 128 << 20
"""Files fetched ahead and not read yet are no more than this together."""

_SCANNED_FILES = 1024
"""How far behind the last file the next one is looked for: the search runs on the loop."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A file to fetch: its position in the directory, and how much of it, from the start."""

    position: int
    length: int


class Siblings:
    """The files of one series, in the order of the directory, and who reads them.

    Learns whether readers go in order or not, and whether they read whole files or only
    headers. What is fetched ahead is bounded by what was read; a jump ends it. Nothing
    here blocks or raises.
    """

    def __init__(
        self, count: int, *, size_of: Callable[[int], int], ahead_of: Callable[[int], int]
    ) -> None:
        """There are `count` files. Both functions are given a position and return bytes.

        `ahead_of` tells how much of a file is fetched ahead of who reads whole files.
        """
        self._count = count
        self._size_of = size_of
        self._ahead_of = ahead_of
        self._headers: deque[bool] = deque(maxlen=_REMEMBERED)
        self._begin_pass()

    def _begin_pass(self) -> None:
        self._read: set[int] = set()
        self._sent: set[int] = set()
        self._unread: dict[int, int] = {}
        """Files sent for and not read yet, and their bytes."""
        self._unread_bytes = 0
        self._last = -1
        self._in_order = 0

    @property
    def headers_only(self) -> bool:
        """Tell whether the last files were read no further than their headers."""
        return 2 * sum(self._headers) > len(self._headers)

    def was_sent_for(self, position: int) -> bool:
        """Tell whether a file was fetched ahead, or is about to be."""
        return position in self._sent

    def opened(self, position: int) -> None:
        """Note that the reading of a file has begun."""
        step = position - self._last
        if position in self._read and not 0 <= step <= _NEAR_FILES:
            self._begin_pass()
            step = position + 1
        self._unread_bytes -= self._unread.pop(position, 0)
        self._in_order = self._in_order + 1 if abs(step) <= _NEAR_FILES else 0
        self._read.add(position)
        self._last = position

    def closed(self, position: int, reach_bytes: int) -> None:
        """Note that a file was read up to `reach_bytes` from its start."""
        before = self.headers_only
        size = self._size_of(position)
        self._headers.append(reach_bytes <= _HEAD_LIMIT_BYTES and reach_bytes < size)
        if before and not self.headers_only:
            # Heads are not enough any more.
            self._sent.clear()
            self._unread.clear()
            self._unread_bytes = 0

    def take(self) -> Ahead | None:
        """Return the next file to fetch ahead, each once; None if there is none for now."""
        if len(self._unread) >= self._window_files or self._unread_bytes >= _WINDOW_BYTES:
            return None
        for position in self._candidates():
            if position not in self._read and position not in self._sent:
                length = self._length(position)
                self._sent.add(position)
                self._unread_bytes += length - self._unread.get(position, 0)
                self._unread[position] = length
                return Ahead(position, length)
        return None

    def _length(self, position: int) -> int:
        length = self._ahead_of(position)
        return min(length, HEAD_BYTES) if self.headers_only else length

    @property
    def _window_files(self) -> int:
        if self._last == 0 and len(self._read) == 1:
            return _FIRST_FILES
        if self._in_order > 1:
            return min(_FILES_A_STEP * self._in_order, _WINDOW_FILES)
        return len(self._read) if len(self._read) >= _SCATTERED_FILES else 0

    def _candidates(self) -> Iterable[int]:
        """Return what comes behind the last file; for who reads in no order, around the end too."""
        after, scanned = self._last + 1, min(self._count, _SCANNED_FILES)
        if self._in_order > 1:
            return range(after, min(after + scanned, self._count))
        return (position % self._count for position in range(after, after + scanned))
