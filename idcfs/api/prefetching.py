"""Prefetch as a call: figures while it runs, a report in the end."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from idcfs.api.figures import human_bytes
from idcfs.errors import WAY_ROUND, IdcfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from idcfs.catalog.catalog import Catalog
    from idcfs.prefetch.job import Observer, PrefetchRequest
    from idcfs.prefetch.outcome import Failure, Outcome


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a prefetch is. Totals are the index's until all series are listed."""

    done_files: int
    total_files: int
    done_bytes: int
    """With those of files under way."""
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a prefetch has done."""

    total_files: int
    fetched_files: int
    fetched_bytes: int
    present_files: int
    """Files that were there already, and right."""
    present_bytes: int
    failures: tuple[Failure, ...]
    """Each with its `subject`, a file or series, and the `reason`."""
    gave_up: str | None
    """Why it ended before it had tried everything, if it did."""
    elapsed_s: float
    out_of_reach: bool = False
    """The store, or a proxy on the way, refused (403); or nobody answered, until it gave up or
    nothing had come in the end."""
    replaced_files: int = 0
    """Those of the fetched that were there and not right."""
    copied_files: int = 0
    """Files that were not there, and were copied from the cache."""
    copied_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Tell whether every file is there."""
        return not self.failures and self.gave_up is None

    def raise_if_incomplete(self) -> None:
        """Raise IncompletePrefetchError, with this report, unless every file is there."""
        if self.is_complete:
            return
        told = [each.line for each in self.failures[:1]]
        told += [f"gave up: {self.gave_up}"] if self.gave_up else []
        told += [WAY_ROUND] if self.out_of_reach else []
        done = self.fetched_files + self.copied_files + self.present_files
        raise IncompletePrefetchError(
            f"{done:,} of {self.total_files:,} files are there, {len(self.failures):,} failures: "
            + "; ".join(told),
            self,
        )


class IncompletePrefetchError(IdcfsError):
    """Some files of a prefetch are not there; `report` says which."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def run(
    catalog: Catalog,
    rows: Sequence[int],
    template: str | None,
    request: PrefetchRequest,
    progress: Callable[[Progress], None] | bool,
) -> Report:
    """Fetch the files of these index rows; see `Selection.prefetch`."""
    from idcfs.mount.mountpoints import keep_off_mounts
    from idcfs.prefetch.selected import SelectedPrefetch

    keep_off_mounts(request.download_dir, request.cache_dir)
    job = SelectedPrefetch(catalog, rows, template, request)
    space = None if request.only_examine else job.measure()
    if space is not None and not space.suffices:
        raise IdcfsError(
            f"{human_bytes(space.needed_bytes)} are to be fetched and {job.place} has room for "
            f"{human_bytes(space.free_bytes)}: select less, or name another place"
        )
    started_s = time.monotonic()
    with _observing(progress) as observe:
        outcome = job.run(observe)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return Report(
        outcome.total_files,
        outcome.fetched_files,
        outcome.fetched_bytes,
        outcome.present_files,
        outcome.present_bytes,
        tuple(outcome.failures),
        outcome.gave_up,
        time.monotonic() - started_s,
        outcome.out_of_reach,
        outcome.replaced_files,
        outcome.copied_files,
        outcome.copied_bytes,
    )


@contextmanager
def _observing(progress: Callable[[Progress], None] | bool) -> Iterator[Observer]:
    """Give what shows the figures; an error that it raises leaves as it is, not in a group."""
    with _shown(progress) as show:
        raised: BaseException | None = None

        def observe(outcome: Outcome, bytes_under_way: int) -> None:
            nonlocal raised
            done = min(outcome.done_bytes + bytes_under_way, outcome.total_bytes)
            try:
                show(Progress(outcome.done_files, outcome.total_files, done, outcome.total_bytes))
            except BaseException as exc:
                raised = exc
                raise

        try:
            yield observe
        except BaseExceptionGroup:
            if raised is not None:
                raise raised from None
            raise


@contextmanager
def _shown(
    progress: Callable[[Progress], None] | bool,
) -> Iterator[Callable[[Progress], None]]:
    if progress is False:
        yield lambda figures: None
    elif progress is not True:
        yield progress
    else:
        from tqdm.auto import tqdm

        with ExitStack() as stack:
            bar: tqdm[NoReturn] | None = None

            def draw(figures: Progress) -> None:
                nonlocal bar
                if bar is None:  # which is drawn at once, and without a total is none
                    bar = tqdm(total=figures.total_bytes, unit="B", unit_scale=True, leave=False)
                    stack.enter_context(bar)
                bar.total = figures.total_bytes
                bar.n = figures.done_bytes
                bar.set_postfix_str(f"{figures.done_files:,}/{figures.total_files:,} files")

            yield draw
