"""A selection in batches, so that one larger than the disk can pass through it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.errors import UsageError
from idcfs.prefetch.space import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from idcfs.model import Series
    from idcfs.prefetch.outcome import Outcome
    from idcfs.prefetch.space import Space

    Batch = list[tuple[Series, str]]


@dataclass(frozen=True, slots=True)
class Streaming:
    """What is done with each series once it is there, and how much may be there at once."""

    command: str
    """Run by the shell for each series that has come whole."""
    removes: bool
    """Whether the files go when the command has ended well."""
    batch_bytes: int | None
    """None for everything at once."""


def split(placed: Iterable[tuple[Series, str]], batch_bytes: int | None) -> Iterator[Batch]:
    """Yield series in batches of at most so many bytes; a larger series is one by itself."""
    batch: Batch = []
    total_bytes = 0
    for series, directory in placed:
        if batch and batch_bytes is not None and total_bytes + series.size_bytes > batch_bytes:
            yield batch
            batch, total_bytes = [], 0
        batch.append((series, directory))
        total_bytes += series.size_bytes
    if batch:
        yield batch


def largest_batch(placed: Iterable[tuple[Series, str]], batch_bytes: int | None) -> Batch:
    """Return the largest batch. Raises UsageError unless each series has its own directory."""
    return max(split(_apart(placed), batch_bytes), key=_size_bytes, default=[])


def batch_space(batch: Batch, place: Path, present: Callable[[], Iterator[int]]) -> Space:
    """Compare a batch with the room at `place`; see `measure`."""
    file_count = sum(series.instance_count or 0 for series, _ in batch)
    return measure(place, size_bytes=_size_bytes(batch), file_count=file_count, present=present)


def when_there_is_room(
    batches: Iterator[Batch],
    place: Path,
    outcome: Outcome,
    present: Callable[[Batch], Iterator[int]],
) -> Iterator[Batch]:
    """Yield each batch once it fits; when one does not, say so in the outcome and end.

    `present` tells roughly what room the files of each series take already. Blocks; raises OSError.
    """
    for batch in batches:
        if outcome.interrupted:
            return
        space = batch_space(batch, place, functools.partial(present, batch))
        if not space.suffices:
            outcome.gave_up = (
                f"the next batch takes {space.needed_bytes / 1e9:.3g} GB and {place} has "
                f"{space.free_bytes / 1e9:.3g} GB free: the command must make room, or "
                "--exec-remove"
            )
            return
        yield batch
        if outcome.gave_up is not None:
            return


def _apart(placed: Iterable[tuple[Series, str]]) -> Iterator[tuple[Series, str]]:
    """Pass on series, in path order, of which no two have one directory. Raises UsageError."""
    former: tuple[Series, str] | None = None
    for each in placed:
        if former is not None and former[1] == each[1]:
            raise UsageError(
                f"series {former[0].uuid} and {each[0].uuid} would share a directory, and --exec "
                "takes one for each: add %crdc_series_uuid to --dir-template"
            )
        yield each
        former = each


def _size_bytes(batch: Batch) -> int:
    return sum(series.size_bytes for series, _ in batch)
