"""Which adjacent units of one object are fetched together, and which are on their way."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.fetch import streams
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHUNK_BYTES = 1 << 20
"""What is fetched at once of a large object into memory."""


class Runs:
    """The runs of one object: extents of adjacent units, each brought by one request."""

    def __init__(self, size_bytes: int, *, is_large: bool) -> None:
        self._size_bytes = size_bytes
        self._is_large = is_large
        self._waiting: Counter[Extent] = Counter()
        """What is on its way, and how many wait for it."""

    @contextmanager
    def under_way(self, run: Extent) -> Iterator[None]:
        """Have others know that somebody waits for a run."""
        self._waiting[run] += 1
        try:
            yield
        finally:
            self._waiting[run] -= 1
            if not self._waiting[run]:
                del self._waiting[run]

    def find(self, unit: Extent) -> Extent | None:
        """Return the run on its way that brings a unit, if there is one."""
        return next((run for run in self._waiting if run.offset <= unit.offset < run.end), None)

    def first_of(self, missing: Sequence[Extent]) -> Extent:
        """Return the first missing units that are adjacent and not on their way, as one."""
        first = missing[0]
        end = first.end
        for unit in missing[1:]:
            too_long = self._is_large and unit.end - first.offset > streams.RUN_BYTES
            if unit.offset != end or too_long or self.find(unit):
                break
            end = unit.end
        return Extent(first.offset, end - first.offset)

    def around(self, unit: Extent, missing: Sequence[Extent]) -> Extent:
        """Return the missing units that are adjacent to one, before and behind it, as one."""
        missing = [each for each in missing if not self.find(each)]
        while missing:
            run = self.first_of(missing)
            if run.offset <= unit.offset < run.end:
                return run
            missing = [each for each in missing if each.offset >= run.end]
        return unit  # stored in this instant, by another thread

    def chunk(self, unit: Extent) -> Extent:
        """Return what is fetched into memory to get a unit of a large object.

        It is the same for all units in it: there they are found again only under one extent.
        """
        start = unit.offset - unit.offset % _CHUNK_BYTES
        return Extent(start, min(_CHUNK_BYTES, self._size_bytes - start))
