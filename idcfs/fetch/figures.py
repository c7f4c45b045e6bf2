"""Counts how often the cache had what was wanted. On the trio thread."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class FetchFigures:
    """What has been read through one Fetcher so far, and where it came from."""

    objects_read: int = 0
    """Objects read from, each time that somebody began to."""
    objects_missed: int = 0
    """Of these, those of which something had to be fetched first."""
    cache_bytes: int = 0
    """Bytes of reads that the cache could answer, with what came ahead of them too."""
    store_bytes: int = 0
    """Bytes of the other reads: what was read of a small object that was not there when it was
    begun, and of a large one each read that lacked something."""

    @property
    def hit_ratio(self) -> float | None:
        """The share of the objects that were there; None if none was read."""
        return 1 - self.objects_missed / self.objects_read if self.objects_read else None
