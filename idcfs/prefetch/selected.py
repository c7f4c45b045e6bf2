"""A prefetch of a selection: whether there is room for it, and bringing it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from idcfs.errors import UsageError
from idcfs.prefetch.batches import batch_space, largest_batch
from idcfs.prefetch.commands import Done
from idcfs.prefetch.job import find_present, run_prefetch
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.space import measure, measure_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idcfs.catalog.catalog import Catalog
    from idcfs.model import Series
    from idcfs.prefetch.job import Observer, PrefetchRequest
    from idcfs.prefetch.space import Space


class SelectedPrefetch:
    """Index rows, and where they go. Every call blocks; any thread."""

    def __init__(
        self,
        catalog: Catalog,
        rows: Sequence[int],
        template: str | None,
        request: PrefetchRequest,
    ) -> None:
        self._catalog = catalog
        self._rows = rows
        self._template = template
        self._request = request
        self.place = request.download_dir or request.cache_dir
        self.size = catalog.size(rows)

    def measure(self) -> Space:
        """Compare what is to be fetched with the room for it: a CacheSpace, if that is the cache.

        Raises UsageError for a place that cannot be examined, CacheError.
        """
        request = self._request
        try:
            if request.download_dir is None:
                return measure_cache(
                    request.cache_dir,
                    cache_size=request.cache_size,
                    shared=request.cache_shared,
                    min_free=request.min_free,
                    size_bytes=self.size.size_bytes,
                    file_count=self.size.instance_count,
                    series=lambda: self._catalog.uuids(self._rows),
                )
            if request.streaming is not None:
                done = Done(request.download_dir, request.streaming.command)
                left = (each for each in self._placed() if each[0].uuid not in done)
                batch = largest_batch(left, request.streaming.batch_bytes)
                return batch_space(
                    batch, request.download_dir, lambda: find_present(request, iter(batch))
                )
            return measure(
                request.download_dir,
                size_bytes=self.size.size_bytes,
                file_count=self.size.instance_count,
                present=lambda: find_present(request, self._placed()),
            )
        except OSError as exc:
            raise UsageError(f"cannot examine {self.place}: {exc.strerror}") from exc

    def run(self, observe: Observer) -> Outcome:
        """Fetch, and tell what came of it; see `run_prefetch`.

        Raises UsageError for a directory that cannot be made, or is not there to be examined,
        and what `run_prefetch` raises.
        """
        if self._request.only_examine:
            if not self.place.is_dir():
                raise UsageError(f"there is no directory {self.place} to check")
        else:
            self._make_place()
        outcome = Outcome(self.size.instance_count, self.size.size_bytes)
        request = self._request
        if self._is_flat:  # series of one directory go to one process
            request = replace(request, processes=1)
        run_prefetch(request, self._placed(), outcome, observe, self._laid_out)
        return outcome

    @property
    def _is_flat(self) -> bool:
        """Tell whether all series go into one directory."""
        return self._request.download_dir is not None and "%" not in (self._template or "")

    def _make_place(self) -> None:
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"cannot make the directory {self.place}: {exc.strerror}") from exc

    def _laid_out(self) -> Iterator[tuple[Series, str]]:
        return self._catalog.series_paths(self._rows, self._template)

    def _placed(self) -> Iterator[tuple[Series, str]]:
        placed = self._laid_out()
        if self._request.download_dir is not None:
            return placed
        # The cache has a directory for each series, whatever the template.
        return ((series, series.uuid) for series, _ in placed)
