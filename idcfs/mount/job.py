"""One mount from request to end: index, selection, layout, cache, store, kernel."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import trio

from idcfs.cache.opening import open_cache
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.facts import common_columns
from idcfs.catalog.succession import Predecessor
from idcfs.errors import MountError
from idcfs.fetch import MAX_TRANSFERS
from idcfs.mount.machine import check_allow_other, check_device, check_fusermount, require
from idcfs.mount.mountpoints import prepare_mountpoint, resolve
from idcfs.mount.notify import ServiceManager
from idcfs.mount.serve import Parts, serve
from idcfs.mount.succession import find_succession
from idcfs.mount.trees import Showing, Shown, View
from idcfs.store.endpoint import origin_of
from idcfs.store.outage import Outage
from idcfs.store.s3 import S3Store
from idcfs.vfs.extended import COLUMNS
from idcfs.vfs.presence import CachePresence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from idcfs.model import TreeTotals
    from idcfs.mount.request import MountRequest

_OUTAGE_REST_S = 3.0
"""So late a mount may notice that the network is back. One reader in so long waits for
a connection, five seconds where nothing answers at all; the others get their error at once."""


def run_mount(
    request: MountRequest,
    ready: Callable[[str, TreeTotals], None],
    complain: Callable[[Sequence[str]], None],
) -> None:
    """Mount, tell `ready` which release and how much of it, and serve until unmounted.

    `complain` gets a line for each part of the selection that picks nothing.
    A service manager that waits for word of this process gets it.

    Raises MountError, UsageError, IndexFileError or CacheError, in the user's words.
    """
    mountpoint = _prepare(request)
    catalog = Catalog.open(request.index_path)
    showing = Showing(_open_shown(catalog, request, complain))
    parts = _make_parts(request, mountpoint, showing)

    def announce() -> None:
        release = showing.now.index.release
        ready(release, showing.now.tree.totals)
        parts.manager.ready(f"{release} at {mountpoint}")

    try:
        trio.run(serve, parts, announce)
    finally:
        showing.now.facts.close()
        parts.store.close()
        parts.cache.close()


def _prepare(request: MountRequest) -> Path:
    """Return the mount point once nothing on this machine stands in the way. Raises MountError."""
    require(check_device(), check_fusermount())
    if request.allow_other:
        require(check_allow_other())
    mountpoint = prepare_mountpoint(request.mountpoint, allow_nonempty=request.allow_nonempty)
    _keep_apart(mountpoint, request)
    # Before a layout is put into a directory not ours.
    open_cache(request.cache_dir, shared=request.cache_shared, background=False).cache.close()
    return mountpoint


def _make_parts(request: MountRequest, mountpoint: Path, showing: Showing) -> Parts:
    outage = Outage(_OUTAGE_REST_S)
    store = S3Store(
        endpoint_url=request.endpoint_url,
        source=request.source,
        max_connections=MAX_TRANSFERS,
        outage=outage,
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
    return Parts(
        mountpoint=mountpoint,
        options=[*request.fuse_options, *(["allow_other"] if request.allow_other else [])],
        showing=showing,
        find_succession=functools.partial(find_succession, request),
        ownership=request.ownership,
        presence=CachePresence(request.cache_dir, cache.shared),
        common={
            name: common_columns(view.template, frozenset(COLUMNS.values()))
            for name, view in request.views.items()
        },
        store=store,
        outage=outage,
        cache=cache,
        cache_dir=request.cache_dir,
        manager=ServiceManager.from_environment(os.environ),
        in_foreground=request.in_foreground,
    )


def _open_shown(
    catalog: Catalog, request: MountRequest, complain: Callable[[Sequence[str]], None]
) -> Shown:
    sources, problems = request.tree_sources(catalog)
    complain(problems)
    layouts = request.open_layouts(catalog.index, sources)
    views = {name: View(source, Predecessor(layouts[name])) for name, source in sources.items()}
    return Shown.of(catalog.index, views)


def _keep_apart(mountpoint: Path, request: MountRequest) -> None:
    """Refuse a cache below its own mount point, and a mount point inside the cache."""
    cache_dir = resolve(request.cache_dir)
    if cache_dir.is_relative_to(mountpoint) or mountpoint.is_relative_to(cache_dir):
        raise MountError(
            f"the cache directory {request.cache_dir} and the mount point "
            f"{request.mountpoint} lie inside one another; choose another --cache-dir"
        )
