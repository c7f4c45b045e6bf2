"""Where the files of a prefetch come from: a store, or a directory that stands for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.prefetch.carried import CarriedStore
from idcfs.prefetch.limit import LimitedStore, RateLimit
from idcfs.prefetch.targets import Verify
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store

if TYPE_CHECKING:
    from idcfs.prefetch.carried import Layout
    from idcfs.prefetch.concurrency import Concurrency
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.store import ObjectStore

LISTING_THREADS = 8

_PROBE_TIMEOUT_S = 10.0
"""How long a store is waited for that may well be out of reach, and is asked only once then."""


def make_store(request: PrefetchRequest, layout: Layout, concurrency: Concurrency) -> ObjectStore:
    """Return what a prefetch reads. Raises UsageError for a bad endpoint or directory."""
    if request.from_dir is None:
        store = S3Store(
            endpoint_url=request.endpoint_url,
            source=request.source,
            max_connections=concurrency.most + LISTING_THREADS,
            pushed_back=concurrency.push_back,
        )
        if request.bytes_per_s is None:
            return store
        return LimitedStore(store, RateLimit(request.bytes_per_s))
    remote = S3Store(
        endpoint_url=request.endpoint_url,
        source=request.source,
        max_connections=3 * LISTING_THREADS,
        read_timeout_s=_PROBE_TIMEOUT_S,
        retry=RetryPolicy(attempts=1),
    )
    believes = request.verify is Verify.LENGTH
    return CarriedStore(request.from_dir, remote=remote, layout=layout if believes else None)
