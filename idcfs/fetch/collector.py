"""Keeps Python's garbage collector from holding up what is fetched. For whole processes of ours."""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 50, 100)
"""Allocations before the young, young collections before the middle, and middle ones before
all is looked through. Python's own, 700, 10 and 10, have it walk through all listings in memory
again and again while another is made: up to 0.3 s each time, with 90,000 files in one. Of a
prefetch of small files it is a tenth of all that Python does."""


def collect_rarely() -> None:
    """Have the whole memory looked through rarely.

    What a mount or a prefetch drops, it drops by reference counts; cycles come from errors only,
    and most of them are found while they are young.
    """
    gc.set_threshold(*_THRESHOLDS)
