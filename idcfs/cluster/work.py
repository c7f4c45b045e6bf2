"""What a worker does: a prefetch of some series, as on any machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distributed import get_worker

import idcfs
from idcfs.errors import UsageError
from idcfs.prefetch.job import bring_series
from idcfs.prefetch.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import Series
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.prefetch.outcome import Ending


@dataclass(frozen=True, slots=True)
class Done:
    """What became of some series."""

    endings: list[Ending]
    outcome: Outcome
    """Its figures say what the endings say; its totals are those of the listings."""


def version() -> str:
    """Return which idcfs the worker has."""
    return idcfs.__version__


def bring_some(request: PrefetchRequest, placed: list[tuple[Series, str]]) -> Done:
    """Bring series to where this worker sees `request`'s directory. Raises as `run_prefetch`.

    Ends early if nobody wants it any more.
    """
    place = request.download_dir or request.cache_dir
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"cannot make the directory {place}: {exc.strerror}") from exc
    worker = get_worker()
    jobs = request.jobs and max(1, request.jobs // worker.state.nthreads)
    outcome = Outcome(
        sum(series.instance_count or 0 for series, _ in placed),
        sum(series.size_bytes for series, _ in placed),
    )
    endings: list[Ending] = []
    unwanted = _watch(worker.get_current_task())

    def observe(outcome: Outcome, bytes_under_way: int) -> None:
        if unwanted():
            raise InterruptedError("the task was cancelled")

    bring_series(
        replace(request, jobs=jobs, report_path=None),
        iter(placed),
        outcome,
        observe,
        lambda: iter(()),
        endings.append,
    )
    return Done(endings, outcome)


def _watch(key: str) -> Callable[[], bool]:
    """Return what tells whether a task was cancelled: Dask cannot end its thread."""
    tasks = get_worker().state.tasks

    def unwanted() -> bool:
        task = tasks.get(key)
        return task is None or task.state == "cancelled"

    return unwanted
