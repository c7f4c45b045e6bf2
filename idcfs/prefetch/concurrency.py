"""How many transfers run at once: as many as the link gains from, and fewer when it is asked.

A distant store answers each request as late, however many are under way, until the link or a
processor is full; from there on more of them only wait for one another. So their number
grows while that brings more, and falls back to the last that did.
"""

from __future__ import annotations

from typing import Final

FIRST: Final = 64
"""Over a link of 30 ms, 32 connections bring 780 files of half a megabyte a second, and one process
can take more than twice as many; s5cmd has 256."""
MOST: Final = 128
"""Of small files, more threads than that take the processor longer than they save."""

MOST_TOGETHER: Final = 256
"""Of several processes. More connections are a burden for the store."""

_LEAST_EACH: Final = 8

FILE_BYTES: Final = 128 << 10
"""What a file counts besides its bytes: in as long as a small one takes to be asked for,
a connection moves some such bytes."""

_WINDOW_S: Final = 0.5
_LONGEST_WINDOW_S: Final = 5.0
_UNITS_EACH: Final = 2
"""Files, or as many bytes, that each transfer should have moved before it is judged."""

_GAIN: Final = 0.1
"""By how much the rate must grow, as a share of the growth in transfers, for these to stay."""

_HOLD_S: Final = 10.0
_LONGEST_HOLD_S: Final = 160.0
"""How long nothing is tried after a try in vain; twice as long after the next."""


_BACK_OFF_EVERY_S: Final = 1.0
"""What was on its way when a store asked for less may be turned away too."""


class Concurrency:
    """The limit of transfers at once; between calls nothing happens. Times are in seconds.

    `push_back` may be called from any thread, the rest belongs to one.
    """

    def __init__(self, *, least: int = 1, first: int = FIRST, most: int = MOST) -> None:
        self.limit = first
        self.most = most
        self._least = least
        self._pushed_back = False
        self._began: tuple[float, float] | None = None
        """When the window began, and what was done by then."""
        self._before: tuple[int, float] | None = None
        """The limit before the one that is being tried, and its rate."""
        self._held_until_s = self._next_back_off_s = 0.0
        self._hold_s = _HOLD_S

    @classmethod
    def fixed(cls, jobs: int) -> Concurrency:
        """Return one that always allows `jobs`, whatever happens."""
        return cls(least=jobs, first=jobs, most=jobs)

    @classmethod
    def shared(cls, jobs: int | None, processes: int) -> Concurrency:
        """Return one for each of several processes, which always allows `jobs` if that is said."""
        if jobs is not None:
            return cls.fixed(jobs)
        most = min(MOST, max(MOST_TOGETHER // processes, _LEAST_EACH))
        return cls(first=min(most, max(FIRST // processes, _LEAST_EACH)), most=most)

    def push_back(self) -> None:
        """Note that the store asks for fewer requests."""
        self._pushed_back = True

    def note(self, now_s: float, done: float) -> int:
        """Judge what was done by now, in bytes with `FILE_BYTES` a file; return the limit."""
        if self.most == self._least:
            return self.limit
        if self._pushed_back:
            self._pushed_back = False
            self._back_off(now_s, done)
        elif self._began is None:
            self._began = (now_s, done)
        else:
            elapsed_s, moved = now_s - self._began[0], done - self._began[1]
            enough = _UNITS_EACH * FILE_BYTES * self.limit
            if elapsed_s >= _LONGEST_WINDOW_S or (elapsed_s >= _WINDOW_S and moved >= enough):
                self._judge(now_s, moved / elapsed_s)
                self._began = (now_s, done)
        return self.limit

    def _judge(self, now_s: float, rate: float) -> None:
        if self._before is not None:
            limit, before = self._before
            grown = self.limit / limit - 1
            if rate < before * (1 + _GAIN * grown):
                self.limit, self._before = limit, None
                self._held_until_s = now_s + self._hold_s
                self._hold_s = min(2 * self._hold_s, _LONGEST_HOLD_S)
                return
            self._hold_s = _HOLD_S
        self._before = None
        if self.limit < self.most and now_s >= self._held_until_s and rate > 0:
            self._before = (self.limit, rate)
            self.limit = min(self.most, 2 * self.limit)

    def _back_off(self, now_s: float, done: float) -> None:
        """Halve it, once for all who are turned away in a while."""
        if now_s < self._next_back_off_s:
            return
        self._next_back_off_s = now_s + _BACK_OFF_EVERY_S
        self.limit = max(self._least, self.limit // 2)
        self._before, self._began = None, (now_s, done)
        self._held_until_s = now_s + _HOLD_S
