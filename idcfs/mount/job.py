"""One mount from request to end: index, selection, layout, cache, store, kernel."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.cache import DiskCache
from idcfs.cache.disk_ledger import DiskLedger
from idcfs.catalog.catalog import Catalog
from idcfs.errors import MountError
from idcfs.fetch import MAX_TRANSFERS
from idcfs.mount.machine import check_allow_other, check_device, check_fusermount, require
from idcfs.mount.mountpoints import prepare_mountpoint, resolve
from idcfs.mount.notify import ServiceManager
from idcfs.mount.serve import check_width, serve
from idcfs.store.endpoint import origin_of
from idcfs.store.s3 import S3Store
from idcfs.vfs.filesystem import DIRECTORY_LIMIT_FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.catalog.layout import Layout
    from idcfs.model import TreeTotals
    from idcfs.store.endpoint import Source
    from idcfs.vfs.attributes import Ownership

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountRequest:
    """All that decides one mount."""

    mountpoint: Path
    template: str
    select: Callable[[Catalog], list[int] | None]
    """Returns the index rows to show; None for the whole index. May complain and go on."""
    index_path: Path | None
    """None for the index that `idc-index-data` brings."""
    cache_dir: Path
    endpoint_url: str | None
    source: Source
    ownership: Ownership
    cache_size: str | None = None
    min_free: str | None = None
    """The cache's limits, as `idcfs.cache.limits` understands them."""
    verify_reads: bool = False
    allow_other: bool = False
    allow_nonempty: bool = False
    fuse_options: tuple[str, ...] = ()
    """Passed on to libfuse as they are."""


def run_mount(request: MountRequest, ready: Callable[[str, TreeTotals], None]) -> None:
    """Mount, tell `ready` which release and how much of it, and serve until unmounted.

    A service manager that waits for word of this process gets it.

    Raises MountError, UsageError, IndexFileError or CacheError, in the user's words.
    """
    require(check_device(), check_fusermount())
    if request.allow_other:
        require(check_allow_other())
    mountpoint = prepare_mountpoint(request.mountpoint, allow_nonempty=request.allow_nonempty)
    _keep_apart(mountpoint, request)
    DiskCache(request.cache_dir).close()  # before a layout is put into a directory not ours
    catalog = Catalog.open(request.index_path)
    layout = _open_tree(catalog, request)
    check_width(layout)
    store = S3Store(
        endpoint_url=request.endpoint_url,
        source=request.source,
        max_connections=MAX_TRANSFERS,
    )
    ledger = DiskLedger(
        request.cache_dir,
        cache_size=request.cache_size,
        min_free=request.min_free,
        keep_limits=True,
    )
    cache = DiskCache(
        request.cache_dir,
        origin=origin_of(request.endpoint_url, request.source),
        ledger=ledger,
        verify_reads=request.verify_reads,
    )
    manager = ServiceManager.from_environment(os.environ)

    def announce() -> None:
        ready(catalog.index.release, layout.totals)
        manager.ready(f"{catalog.index.release} at {mountpoint}")

    options = [*request.fuse_options, *(["allow_other"] if request.allow_other else [])]
    try:
        trio.run(
            functools.partial(
                serve,
                tree=layout,
                store=store,
                cache=cache,
                ownership=request.ownership,
                mountpoint=mountpoint,
                options=options,
                ready=announce,
                manager=manager,
            )
        )
    finally:
        store.close()
        cache.close()
        layout.close()


def _open_tree(catalog: Catalog, request: MountRequest) -> Layout:
    """Open the layout, narrowed to the selection, and say so if it has hopeless directories."""
    rows = request.select(catalog)
    layouts_dir = request.cache_dir / "layouts"
    if rows is None:
        layout = catalog.open_layout(request.template, layouts_dir)
    else:
        layout = catalog.open_layout_of(request.template, layouts_dir, rows)
    if layout.refused_count:
        logger.warning(
            "%d series of the index have no proper UUID or bucket and are left out",
            layout.refused_count,
        )
    if layout.widest_leaf_instances() > DIRECTORY_LIMIT_FILES:
        logger.warning(
            "some directories of this template hold more than %s files and cannot be listed; "
            "more levels in --dir-template help",
            f"{DIRECTORY_LIMIT_FILES:,}",
        )
    return layout


def _keep_apart(mountpoint: Path, request: MountRequest) -> None:
    """Refuse a cache below its own mount point, and a mount point inside the cache."""
    cache_dir = resolve(request.cache_dir)
    if cache_dir.is_relative_to(mountpoint) or mountpoint.is_relative_to(cache_dir):
        raise MountError(
            f"the cache directory {request.cache_dir} and the mount point "
            f"{request.mountpoint} lie inside one another; choose another --cache-dir"
        )
