"""Progress bars on a terminal, and nothing elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from idcfs.model import SeriesUUID


@contextmanager
def drawn_bytes(total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Draw how many of so many bytes are done, as the block tells."""
    if not sys.stderr.isatty():
        yield lambda done_bytes: None
        return
    from tqdm import tqdm

    with tqdm(total=total_bytes, unit="B", unit_scale=True, **bar_form()) as bar:

        def draw(done_bytes: int) -> None:
            bar.update(done_bytes - bar.n)

        yield draw


@contextmanager
def drawn_series(series: Collection[SeriesUUID]) -> Iterator[Iterator[SeriesUUID]]:
    """Draw how many of these series have been taken in the block."""
    if not sys.stderr.isatty():
        yield iter(series)
        return
    from tqdm import tqdm

    with tqdm(series, unit=" series", **bar_form()) as bar:
        yield iter(bar)


def bar_form() -> dict[str, Any]:
    """Return how tqdm is to draw a bar on this terminal."""
    # A terminal may say that it is 0 by 0, in containers for one: tqdm would draw nothing.
    if all(os.get_terminal_size(sys.stderr.fileno())):
        return {"dynamic_ncols": True, "leave": False}
    return {"ncols": 80, "nrows": 24, "leave": False}
