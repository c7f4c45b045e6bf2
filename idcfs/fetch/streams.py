"""How far ahead of its readers a large object is fetched: a policy, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_BYTES = 4 << 20
"""The longest extent that one request brings. At 80 MB/s and 30 ms a request, it is under way
for 80 ms; a longer one would make the first reader of it wait longer, and not be faster."""

WINDOW_BYTES = 128 << 20
"""The farthest that is fetched ahead of a reader. With half of that, link, store and reader took
turns instead of working at once: a window had to be read before the next one was on its way."""

IN_MEMORY_BYTES = 16 << 20
"""The farthest if it goes to memory, as the cache cannot take it. It comes in short runs then."""

FIRST_BYTES = 1 << 20
"""Fetched at the start of an object, where a header is, and whoever reads all of it begins."""

EXTRA_BYTES = 128 << 10
"""Fetched beyond the first reads anywhere else, where the kernel cuts what a program reads
into pieces of 128 KiB and asks for one after another: so the tile of a slide, of 256 KiB,
comes in one round trip."""

_SHORT_RUNS = 4
"""So many short ones make a run, as long as the window is less than so many runs wide: over a link
that is mostly delay, they come at once in the time of the first."""

_STEADY_BYTES = 768 << 10
"""Reading that went on for so long, in order, will go on."""

_GROWTH = 4
"""The window is so many times what was read in order."""

_SLACK_BYTES = 1 << 20
"""Reads that far from where the last one ended belong to the same stream: the kernel asks
for several pieces at once, and they overtake each other."""

_STREAMS = 8
"""Readers of one object that are told apart."""


@dataclass(slots=True)
class _Stream:
    """A reader that goes through an object in order."""

    start: int
    position: int
    """The end of what it has read."""
    sent: int
    """The end of what has been asked for on its behalf."""
    read_bytes: int = 0

    def includes(self, extent: Extent) -> bool:
        return abs(extent.offset - self.position) <= _SLACK_BYTES

    def window_bytes(self, most_bytes: int) -> int:
        """Return how far beyond `position` the object is fetched."""
        if self.read_bytes < _STEADY_BYTES and self.start:
            return 0
        return min(_GROWTH * self.read_bytes, most_bytes)

    def next_run(self, offset: int, window_bytes: int) -> int:
        """Return the first boundary between runs behind `offset`."""
        is_short = window_bytes <= _SHORT_RUNS * RUN_BYTES
        length = RUN_BYTES // _SHORT_RUNS if is_short else RUN_BYTES
        return (offset // length + 1) * length


class Streams:
    """The readers of one object: what each read should bring, and what is fetched ahead.

    The window of a reader grows with what it has read in order and is gone when it
    jumps. Several are told apart by where they are. Nothing here blocks or raises.
    """

    def __init__(self, size_bytes: int, *, extra_bytes: int) -> None:
        """`extra_bytes` is what is fetched beyond a read that is not known to go on."""
        self._size_bytes = size_bytes
        self._extra_bytes = extra_bytes
        self._streams: list[_Stream] = []
        """The one that was read last comes last."""

    def note(self, extent: Extent) -> Extent:
        """Note a read, and return what should be fetched at once if any of it is missing.

        That begins where `extent` does and covers it. `extent` lies within the object.
        """
        stream = self._find(extent)
        stream.start = min(stream.start, extent.offset)
        stream.position = max(stream.position, extent.end)
        stream.read_bytes += extent.length
        least = FIRST_BYTES if stream.start == 0 else stream.position + self._extra_bytes
        window = stream.window_bytes(WINDOW_BYTES)
        ahead = min(stream.position + window, stream.next_run(extent.offset, window))
        end = min(max(extent.end, least, ahead), self._size_bytes)
        stream.sent = max(stream.sent, end)
        return Extent(extent.offset, end - extent.offset)

    def take(self, most_bytes: int) -> Extent | None:
        """Return the next extent to fetch ahead of a reader, once; None if there is none yet.

        It ends no more than `most_bytes` beyond what has been read.
        """
        for stream in reversed(self._streams):
            window = stream.window_bytes(most_bytes)
            wanted = min(stream.position + window, self._size_bytes)
            end = min(stream.next_run(stream.sent, window), self._size_bytes)
            if stream.sent < end <= wanted:
                extent = Extent(stream.sent, end - stream.sent)
                stream.sent = end
                return extent
        return None

    def rewind(self) -> None:
        """Forget what was asked for ahead of readers: it has not come."""
        for stream in self._streams:
            stream.sent = stream.position

    def _find(self, extent: Extent) -> _Stream:
        for stream in self._matching(extent):
            self._streams.remove(stream)
            break
        else:
            stream = _Stream(extent.offset, extent.offset, extent.offset)
            del self._streams[: max(len(self._streams) + 1 - _STREAMS, 0)]
        self._streams.append(stream)
        return stream

    def _matching(self, extent: Extent) -> Iterator[_Stream]:
        return (stream for stream in reversed(self._streams) if stream.includes(extent))


def runs_of(size_bytes: int) -> Iterator[Extent]:
    """Yield the runs that make up an object, in order."""
    for offset in range(0, size_bytes, RUN_BYTES):
        yield Extent(offset, min(RUN_BYTES, size_bytes - offset))
