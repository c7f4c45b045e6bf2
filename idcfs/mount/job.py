"""One mount from request to end: index, selection, layout, cache, store, kernel."""

from __future__ import annotations

import functools
import logging
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from idcfs.cache.opening import is_shared_directory, open_cache
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.facts import SeriesFacts, common_columns
from idcfs.errors import MountError
from idcfs.fetch import MAX_TRANSFERS
from idcfs.mount.machine import check_allow_other, check_device, check_fusermount, require
from idcfs.mount.mountpoints import prepare_mountpoint, resolve
from idcfs.mount.notify import ServiceManager
from idcfs.mount.serve import Knowledge, check_width, serve
from idcfs.store.endpoint import origin_of
from idcfs.store.s3 import S3Store
from idcfs.vfs.extended import COLUMNS
from idcfs.vfs.filesystem import DIRECTORY_LIMIT_FILES
from idcfs.vfs.presence import CachePresence

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.catalog.layout import Layout
    from idcfs.model import TreeTotals
    from idcfs.store.endpoint import Source
    from idcfs.vfs.attributes import Ownership

logger = logging.getLogger(__name__)

_OUTAGE_REST_S = 3.0
"""So late a mount may notice that the network is back. One reader in so long waits for
a connection, five seconds where nothing answers at all; the others get their error at once."""


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
    cache_shared: bool | None = None
    """Whether several hosts share the cache directory; None for what was last said of it."""
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
    # Before a layout is put into a directory not ours.
    open_cache(request.cache_dir, shared=request.cache_shared, background=False).cache.close()
    catalog = Catalog.open(request.index_path)
    layout = _open_tree(catalog, request)
    check_width(layout)
    store = S3Store(
        endpoint_url=request.endpoint_url,
        source=request.source,
        max_connections=MAX_TRANSFERS,
        outage_rest_s=_OUTAGE_REST_S,
    )
    cache = open_cache(
        request.cache_dir,
        shared=request.cache_shared,
        origin=origin_of(request.endpoint_url, request.source),
        cache_size=request.cache_size,
        min_free=request.min_free,
        keep_limits=True,
        verify_reads=request.verify_reads,
        hurried=True,
    ).cache
    facts = SeriesFacts(catalog.index)
    common = common_columns(request.template, frozenset(COLUMNS.values()))
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
                knowledge=Knowledge(
                    facts=facts,
                    presence=CachePresence(request.cache_dir, cache.shared),
                    common=common,
                    index=catalog.index,
                    cache_dir=request.cache_dir,
                ),
                mountpoint=mountpoint,
                options=options,
                ready=announce,
                manager=manager,
            )
        )
    finally:
        facts.close()
        store.close()
        cache.close()
        layout.close()


def _open_tree(catalog: Catalog, request: MountRequest) -> Layout:
    """Open the layout, narrowed to the selection, and say so if it has hopeless directories."""
    rows = request.select(catalog)
    layouts_dir = _layouts_dir(request)
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


def _layouts_dir(request: MountRequest) -> Path:
    """Return where layouts are kept: on this host, if others share the cache directory.

    They are compiled under a lock, and mapped into memory for as long as the mount lives.
    """
    if not is_shared_directory(request.cache_dir):
        return request.cache_dir / "layouts"
    directory = Path(tempfile.gettempdir(), f"idcfs-{os.geteuid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError as exc:
        raise MountError(f"cannot make {directory}: {exc.strerror}; set TMPDIR") from exc
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise MountError(f"{directory} is not yours alone; remove it, or set TMPDIR")
    return directory / "layouts"


def _keep_apart(mountpoint: Path, request: MountRequest) -> None:
    """Refuse a cache below its own mount point, and a mount point inside the cache."""
    cache_dir = resolve(request.cache_dir)
    if cache_dir.is_relative_to(mountpoint) or mountpoint.is_relative_to(cache_dir):
        raise MountError(
            f"the cache directory {request.cache_dir} and the mount point "
            f"{request.mountpoint} lie inside one another; choose another --cache-dir"
        )
