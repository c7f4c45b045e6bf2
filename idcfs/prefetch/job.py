"""One prefetch from request to end: store, cache, fetcher, pipeline, signals."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from idcfs.cache.opening import is_remote, open_cache
from idcfs.fetch import INTEGRITY_TRIES, Carrier, Fetcher, Limiters
from idcfs.prefetch.batches import split, when_there_is_room
from idcfs.prefetch.commands import Done, SeriesCommands
from idcfs.prefetch.concurrency import FILE_BYTES, Concurrency
from idcfs.prefetch.metered import MeteredStore
from idcfs.prefetch.patience import NO_PATIENCE, Patience, PatiencePolicy
from idcfs.prefetch.pipeline import BATCH_SERIES, HOPELESS_FAILURES, Pipeline
from idcfs.prefetch.recheck import OnlyExamined
from idcfs.prefetch.report import reporting
from idcfs.prefetch.sharing import process_count
from idcfs.prefetch.sources import LISTING_THREADS, make_store
from idcfs.prefetch.stopping import noted_signals, stop_at_signal
from idcfs.prefetch.targets import CacheTarget, DirectoryTarget, Target, Verify
from idcfs.store.endpoint import origin_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from idcfs.cache import Cache
    from idcfs.model import Series
    from idcfs.prefetch.batches import Batch, Streaming
    from idcfs.prefetch.carried import Layout
    from idcfs.prefetch.outcome import Outcome
    from idcfs.prefetch.report import Note
    from idcfs.store.endpoint import Source

    Observer = Callable[[Outcome, int], None]
    """Shown the figures from time to time, with the bytes of files under way."""

    Listed = Callable[[Series, int], None]

logger = logging.getLogger(__name__)

_DISK_THREADS = 16
_OBSERVED_EVERY_S = 0.2

_HOPELESS_EACH = 6
"""The least number of failures in a row that ends one of several processes, and so all."""


@dataclass(frozen=True, slots=True)
class PrefetchRequest:
    """All that decides one prefetch but the series."""

    download_dir: Path | None
    """None for the cache."""
    cache_dir: Path
    """Listings are kept there in any case."""
    endpoint_url: str | None
    source: Source
    jobs: int | None
    """Files, or pieces of large ones, fetched at once; None for as many as the link gains from."""
    verify: Verify
    cache_size: str | None = None
    min_free: str | None = None
    """The cache's limits, as `idcfs.cache.limits` understands them."""
    cache_shared: bool | None = None
    """Whether several hosts share the cache directory; None for what was last said of it."""
    bytes_per_s: int | None = None
    """No more of objects' content than this comes over the network; None for no limit."""
    report_path: Path | None = None
    """Gets a line of JSON for each file, and one that sums up."""
    from_dir: Path | None = None
    """Files that were fetched elsewhere; nothing but listings then comes from the store."""
    only_examine: bool = False
    """Fetch nothing, and call a failure what is missing or not right."""
    processes: int | None = 1
    """How many share the work; None for as many as there are processors, where that pays."""
    streaming: Streaming | None = None
    """What is done with each series in `download_dir`, and in what batches they come."""
    ends_at_second_signal: bool = False
    """Whether a second SIGINT or SIGTERM ends the process, whatever holds it up."""


def find_present(request: PrefetchRequest, placed: Iterator[tuple[Series, str]]) -> Iterator[int]:
    """Yield roughly what room the files of each series take already. Blocks."""
    if not (request.download_dir or request.cache_dir).exists():
        return
    origin = origin_of(request.endpoint_url, request.source)
    cache = open_cache(
        request.cache_dir, shared=request.cache_shared, origin=origin, background=False
    ).cache
    try:
        target = _make_target(request, cache)
        for series, directory in placed:
            yield target.present_bytes(series, directory)
    finally:
        cache.close()


def _make_target(request: PrefetchRequest, cache: Cache) -> Target:
    disk = trio.CapacityLimiter(_DISK_THREADS)
    target: Target = CacheTarget(cache, verify=request.verify, disk=disk)
    if request.download_dir is not None:
        target = DirectoryTarget(request.download_dir, cache, verify=request.verify, disk=disk)
    return OnlyExamined(target) if request.only_examine else target


def run_prefetch(
    request: PrefetchRequest,
    placed: Iterator[tuple[Series, str]],
    outcome: Outcome,
    observe: Observer,
    layout: Layout,
) -> None:
    """Bring the files of all series, and tell in `outcome` what came of it.

    `placed` are series and their directories in path order, `layout` gives those that the
    template gives. SIGINT and SIGTERM end it in order, and soon: files under way are dropped,
    complete ones stay. Raises CacheError if there is no cache directory to be had, UsageError for a
    bad endpoint, a directory that cannot be read or a report that cannot be written.
    """
    request = replace(request, processes=process_count(request, outcome))
    with reporting(request.report_path, outcome) as note:
        if request.processes == 1:
            bring_series(request, placed, outcome, observe, layout, note)
        else:
            from idcfs.prefetch.company import bring_together

            bring_together(request, placed, outcome, observe, layout, note)
        outcome.tell_untried()


def bring_series(
    request: PrefetchRequest,
    placed: Iterator[tuple[Series, str]],
    outcome: Outcome,
    observe: Observer,
    layout: Layout,
    note: Note,
    listed: Listed = lambda *_: None,
) -> None:
    """Do what `run_prefetch` does, in this process; `note` is told of each file.

    `listed` is told of each series how many files of it will end, before any does.

    What `request` says of processes tells how many share the store.
    """
    processes = request.processes or 1
    concurrency = Concurrency.shared(request.jobs, processes)
    store = make_store(request, layout, concurrency)
    cache = open_cache(
        request.cache_dir,
        shared=request.cache_shared,
        origin=origin_of(request.endpoint_url, request.source),
        cache_size=request.cache_size,
        min_free=request.min_free,
        keep_limits=True,
    ).cache
    target = _make_target(request, cache)
    bring = functools.partial(
        prefetch,
        meter=MeteredStore(store),
        cache=cache,
        target=target,
        outcome=outcome,
        observe=observe,
        note=note,
        listed=listed,
        concurrency=concurrency,
        processes=processes,
        fills=request.download_dir is None and not (cache.shared or is_remote(request.cache_dir)),
        integrity_tries=INTEGRITY_TRIES if request.from_dir is None else 1,
        patience_policy=PatiencePolicy() if request.from_dir is None else NO_PATIENCE,
        ends_at_second_signal=request.ends_at_second_signal,
    )
    try:
        if request.streaming is None or request.download_dir is None:
            trio.run(bring, placed)
        else:
            with noted_signals(outcome, ends_at_second=request.ends_at_second_signal):
                _stream(
                    request.streaming, request.download_dir, placed, target, outcome, bring, note
                )
    finally:
        store.close()
        cache.close()


def _stream(
    streaming: Streaming,
    root: Path,
    placed: Iterator[tuple[Series, str]],
    target: Target,
    outcome: Outcome,
    bring: Callable[..., Awaitable[None]],
    note: Note,
) -> None:
    """Bring batch after batch, and have the command see each series."""
    done = Done(root, streaming.command)

    def present(batch: Batch) -> Iterator[int]:
        return (target.present_bytes(series, directory) for series, directory in batch)

    batches = split(_skip(placed, done, outcome), streaming.batch_bytes)
    for batch in when_there_is_room(batches, root, outcome, present):
        commands = SeriesCommands(streaming, root, done, outcome, note)
        trio.run(functools.partial(bring, iter(batch), commands=commands))


def _skip(
    placed: Iterator[tuple[Series, str]], done: Done, outcome: Outcome
) -> Iterator[tuple[Series, str]]:
    for series, directory in placed:
        if series.uuid in done:
            outcome.skip(series)
        else:
            yield series, directory


async def prefetch(
    placed: Iterator[tuple[Series, str]],
    *,
    meter: MeteredStore,
    cache: Cache,
    target: Target,
    outcome: Outcome,
    observe: Observer,
    note: Note,
    listed: Listed = lambda *_: None,
    concurrency: Concurrency,
    processes: int = 1,
    fills: bool = False,
    integrity_tries: int = INTEGRITY_TRIES,
    commands: SeriesCommands | None = None,
    patience_policy: PatiencePolicy = NO_PATIENCE,
    ends_at_second_signal: bool = False,
) -> None:
    """Bring the files of all series to `target`; see `run_prefetch`.

    `fills` tells whether one thread fills the cache. Small files that `target` has downloaded are
    received by this one.
    """
    patience = Patience(meter, patience_policy)
    limiters = Limiters(
        objects=trio.CapacityLimiter(concurrency.limit),
        listings=trio.CapacityLimiter(LISTING_THREADS),
        disk=trio.CapacityLimiter(_DISK_THREADS),
    )
    async with trio.open_nursery() as services:
        multiplexer = meter.find_multiplexer() if target.downloads else None
        carrier = None if multiplexer is None else Carrier(multiplexer)
        fetcher = Fetcher(
            store=meter,
            cache=cache,
            nursery=services,
            limiters=limiters,
            integrity_tries=integrity_tries,
            carrier=carrier,
            fills_together=fills,
        )
        if carrier is not None:
            services.start_soon(carrier.run)
        pipeline = Pipeline(
            fetcher=fetcher,
            target=target,
            meter=meter,
            patience=patience,
            outcome=outcome,
            jobs=concurrency.most,
            note=note,
            listed=listed,
            listers=max(2, LISTING_THREADS // processes),
            series_at_once=1 if processes > 1 else BATCH_SERIES,
            hopeless_failures=max(_HOPELESS_EACH, HOPELESS_FAILURES // processes),
        )
        try:
            stopped = [pipeline] if commands is None else [pipeline, commands]
            await services.start(stop_at_signal, stopped, outcome, ends_at_second_signal)
            services.start_soon(_watch, outcome, meter, patience, observe)
            services.start_soon(_steer, outcome, meter, concurrency, limiters.objects)
            if commands is None:
                await pipeline.run(placed)
            else:
                async with commands.running() as pipeline.finished:
                    await pipeline.run(placed)
            observe(outcome, 0)
        finally:
            services.cancel_scope.cancel()
            fetcher.close()


async def _watch(
    outcome: Outcome, meter: MeteredStore, patience: Patience, observe: Observer
) -> None:
    while True:
        patience.watch()
        observe(outcome, meter.bytes_under_way)
        await trio.sleep(_OBSERVED_EVERY_S)


async def _steer(
    outcome: Outcome, meter: MeteredStore, concurrency: Concurrency, transfers: trio.CapacityLimiter
) -> None:
    while True:
        done = outcome.fetched_bytes + meter.bytes_under_way + outcome.done_files * FILE_BYTES
        limit = concurrency.note(trio.current_time(), done)
        if limit != transfers.total_tokens:
            logger.debug("%d transfers at once from now on", limit)
            transfers.total_tokens = limit
        await trio.sleep(_OBSERVED_EVERY_S)
