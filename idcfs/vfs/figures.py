"""Counts requests: how many of each kind, how long they took, and what they met."""

from __future__ import annotations

from collections import Counter

_SLOTS = 40
"""Each is twice as wide as the one before; the last begins at six days."""


class Latencies:
    """A histogram of durations in slots of powers of two microseconds.

    Percentiles are right to a factor of two, which tells the page cache, a disk and a
    network apart, and recording one costs less than the clock that is read for it.
    """

    __slots__ = ("_slots", "count", "total_s")

    def __init__(self) -> None:
        self._slots = [0] * _SLOTS
        self.count = 0
        self.total_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self._slots[min(int(seconds * 1e6).bit_length(), _SLOTS - 1)] += 1
        self.count += 1
        self.total_s += seconds

    def percentile(self, percent: float) -> float | None:
        """Return what so many percent did not exceed, in seconds; None if none was counted."""
        wanted, seen = self.count * percent / 100, 0
        for slot, count in enumerate(self._slots):
            seen += count
            if count and seen >= wanted:
                return float(2**slot) / 1e6
        return None


class RequestFigures:
    """What has been asked of a file system. On the trio thread."""

    def __init__(self) -> None:
        self.latencies: dict[str, Latencies] = {}
        """By the kind of request: `lookup`, `read`, …"""
        self.errors: Counter[str] = Counter()
        """By the name of the error's class."""
        self.read_bytes = 0
        """Bytes that reads were answered with."""
        self.under_way = 0

    def record(self, kind: str, seconds: float) -> None:
        """Count a request that has been answered."""
        latencies = self.latencies.get(kind)
        if latencies is None:
            latencies = self.latencies[kind] = Latencies()
        latencies.record(seconds)
