"""A selection cut into pieces, handed to workers, and what became of all of it."""

from __future__ import annotations

import itertools
import logging
import socket
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from idcfs import __version__
from idcfs.errors import IdcfsError, MissingPackageError, UsageError
from idcfs.prefetch.batches import split
from idcfs.prefetch.outcome import Outcome, failed_series
from idcfs.prefetch.report import reporting
from idcfs.prefetch.selected import SelectedPrefetch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client

    from idcfs.catalog.catalog import Catalog
    from idcfs.cluster.work import Done
    from idcfs.prefetch.batches import Batch
    from idcfs.prefetch.job import Observer, PrefetchRequest
    from idcfs.prefetch.outcome import Ending
    from idcfs.prefetch.report import Note

_PIECES = 16
"""For each thread of the cluster, so that none waits long for the last of another."""

_PIECE_BYTES = (16 * 10**6, 4 * 10**9)
"""The smallest and largest piece that is aimed at: each costs time to begin, and is begun anew
when its worker dies."""

_WAITING = 3
"""Pieces handed over for each thread: a million series would be too many for the scheduler."""

_ANSWER_S = 5.0
"""How long the scheduler's machine may take to answer."""

_PATIENCE_S = 30
"""How long the scheduler may take to be ready, and a first worker to be there."""

_RETRIES = 2


class ClusterPrefetch(SelectedPrefetch):
    """A `SelectedPrefetch` by the workers of a Dask cluster.

    To a directory that they share or, without one, into each worker's cache. Only they know
    what room there is.
    """

    def __init__(
        self,
        catalog: Catalog,
        rows: Sequence[int],
        template: str | None,
        request: PrefetchRequest,
        *,
        scheduler: str,
    ) -> None:
        super().__init__(catalog, rows, template, request)
        self._scheduler = scheduler

    def run(self, observe: Observer) -> Outcome:
        """Fetch, and tell what came of it.

        Raises UsageError for an address that is none, MissingPackageError, and IdcfsError if
        there is no scheduler, no worker, or one that has another idcfs.
        """
        outcome = Outcome(self.size.instance_count, self.size.size_bytes)
        with (
            _connected(self._scheduler) as client,
            reporting(self._request.report_path, outcome) as note,
        ):
            threads = sum(client.nthreads().values())
            smallest, largest = _PIECE_BYTES
            piece_bytes = min(max(self.size.size_bytes // (_PIECES * threads), smallest), largest)
            pieces = split(self._placed(), piece_bytes)
            request = replace(self._request, report_path=None, processes=1)
            _Spread(client, request, outcome, note, observe).run(pieces, _WAITING * threads)
            outcome.tell_untried()
        return outcome


class _Spread:
    """One prefetch on a cluster, as its client sees it. One use."""

    def __init__(
        self,
        client: Client,
        request: PrefetchRequest,
        outcome: Outcome,
        note: Note,
        observe: Observer,
    ) -> None:
        self._client = client
        self._request = request
        self._outcome = outcome
        self._note = note
        self._observe = observe
        self._token = uuid.uuid4().hex
        self._pieces: dict[str, Batch] = {}

    def run(self, pieces: Iterator[Batch], waiting: int) -> None:
        """Hand over all pieces, `waiting` at once, and count what comes back."""
        from distributed import as_completed

        first = [self._submit(each) for each in itertools.islice(pieces, waiting)]
        completed = as_completed(first, loop=self._client.loop)
        try:
            self._observe(self._outcome, 0)
            for future in completed:
                self._take(future)
                self._observe(self._outcome, 0)
                # A disk that is full, or a store that is gone, would meet all others too.
                for piece in itertools.islice(pieces, int(self._outcome.gave_up is None)):
                    completed.add(self._submit(piece))
        except KeyboardInterrupt:
            self._outcome.interrupted = True
            self._client.cancel(list(completed.futures))

    def _submit(self, piece: Batch) -> Any:  # noqa: ANN401  # a future of distributed's
        from idcfs.cluster.work import bring_some

        key = f"idcfs-prefetch-{self._token}-{piece[0][0].uuid}"
        self._pieces[key] = piece
        # A worker that dies costs no retry: Dask hands its work to another, three times.
        return self._client.submit(bring_some, self._request, piece, key=key, retries=_RETRIES)

    def _take(self, future: Any) -> None:  # noqa: ANN401
        piece, outcome = self._pieces.pop(future.key), self._outcome
        try:
            done: Done = future.result()
        except Exception as exc:
            reason = " ".join(str(exc).split()) or type(exc).__name__
            for series, _ in piece:
                self._end(failed_series(series, reason, series.instance_count or 0))
            return
        for ending in done.endings:
            self._end(ending)
        part = done.outcome
        outcome.total_files += part.total_files - sum(s.instance_count or 0 for s, _ in piece)
        outcome.total_bytes += part.total_bytes - sum(s.size_bytes for s, _ in piece)
        outcome.gave_up = outcome.gave_up or part.gave_up
        outcome.out_of_reach |= part.out_of_reach

    def _end(self, ending: Ending) -> None:
        self._outcome.count(ending)
        self._note(ending)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Connect to a scheduler that has workers of our kind."""
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port, parse_address
        from distributed.comm.registry import get_backend
    except ImportError as exc:
        raise MissingPackageError(
            "--scheduler takes the package distributed: pip install 'idcfs[dask]'"
        ) from exc
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is wrong we tell
    try:
        scheme = parse_address(address)[0]
        get_backend(scheme)
        server = get_address_host_port(address) if scheme in ("tcp", "tls") else None
    except ValueError as exc:
        raise UsageError(
            f"{address!r} is no Dask scheduler's address, such as tcp://host:8786"
        ) from exc
    try:
        if server is not None:  # Dask would try again and again before it says so
            socket.create_connection(server, timeout=_ANSWER_S).close()
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise IdcfsError(f"no Dask scheduler answers at {address}: is it running?") from exc
    with client:
        _check_workers(client, address)
        yield client


def _check_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError as exc:
        raise IdcfsError(f"the scheduler at {address} has no workers: start some") from exc
    from idcfs.cluster.work import version

    try:
        versions = client.run(version)
    except Exception as exc:
        raise IdcfsError(
            f"the workers of {address} cannot run idcfs: install idcfs[dask] there too ({exc})"
        ) from exc
    for worker, theirs in versions.items():
        if theirs != __version__:
            raise IdcfsError(f"the worker {worker} has idcfs {theirs}, not {__version__} as here")
