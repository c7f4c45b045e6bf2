"""Opens a cache directory in the mode that it is in: for one host, or shared by several."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from idcfs.cache.census import find_members
from idcfs.cache.disk import DiskCache
from idcfs.cache.disk_ledger import BOOKS_PATIENCE_S, FLUSH_S, DiskLedger
from idcfs.cache.shared_ledger import HEARTBEAT_S, SharedLedger
from idcfs.cache.shared_scratch import SHARED, SharedScratch
from idcfs.cache.sweep import STALE_S
from idcfs.errors import CacheError
from idcfs.mount_table import mounts

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.ledger import Books

logger = logging.getLogger(__name__)

_ON = "on"
"""The file in the directory `shared` that says that the mode is on."""

_REMOTE_TYPES = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "ceph", "beegfs", "afs", "panfs", "pvfs2"}
    | {"9p", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "fuse.sshfs", "fuse.cephfs"}
)
"""File systems that several hosts may have mounted, as the mount table calls them."""

_HURRY_S = 1.0


class OpenCache(NamedTuple):
    """A cache and its books."""

    cache: DiskCache
    """Closing it closes the books too."""
    books: Books


def open_cache(
    root: Path,
    *,
    shared: bool | None = None,
    origin: str = "aws",
    cache_size: str | None = None,
    min_free: str | None = None,
    keep_limits: bool = False,
    verify_reads: bool = False,
    background: bool = True,
    hurried: bool = False,
) -> OpenCache:
    """Open the cache in a directory, for one host or, with `shared`, for several.

    None is what was last said for this directory. The other arguments are those of
    `DiskCache` and of the ledgers. Without `background` no thread writes down what
    happens: for commands that end soon. Who is `hurried`, as somebody waits for each read,
    does not wait for lost books to be counted, and stores nothing until then. Raises
    CacheError.
    """
    is_shared = is_shared_directory(root) if shared is None else shared
    books: Books
    scratch = SharedScratch(root) if is_shared else None
    if scratch is None:
        books = DiskLedger(
            root,
            cache_size=cache_size,
            min_free=min_free,
            keep_limits=keep_limits,
            flush_s=FLUSH_S if background else None,
            books_patience_s=_HURRY_S if hurried else BOOKS_PATIENCE_S,
        )
    else:
        books = SharedLedger(
            root,
            scratch=scratch,
            cache_size=cache_size,
            min_free=min_free,
            keep_limits=keep_limits,
            heartbeat_s=HEARTBEAT_S if background else None,
        )
    try:
        if shared is False:
            _leave_shared_mode(root)
        cache = DiskCache(
            root, origin=origin, ledger=books, shared=scratch, verify_reads=verify_reads
        )
    except BaseException:
        books.close()
        raise
    if is_shared:
        _enter_shared_mode(root)
    elif background:
        _warn_of_other_hosts(root)
    if background:
        books.prepare()
    return OpenCache(cache, books)


def is_shared_directory(root: Path) -> bool:
    """Tell whether somebody has said that several hosts share the cache in a directory.

    Never raises: of a directory out of reach, `DiskCache` tells.
    """
    return os.path.exists(root / SHARED / _ON)  # noqa: PTH110


def _enter_shared_mode(root: Path) -> None:
    # Where it cannot be written, nothing is stored either.
    with suppress(OSError):
        (root / SHARED / _ON).touch(mode=0o600)


def _leave_shared_mode(root: Path) -> None:
    """Have the directory be one host's again. Raises CacheError while others may use it."""
    if not is_shared_directory(root):
        return
    try:
        mark = root / SHARED / _ON
        mark.touch()
        now_s = mark.stat().st_mtime
        for member in find_members(root):
            if now_s - member.alive_s < STALE_S and not member.has_left:
                raise CacheError(
                    f"the cache directory {root} is shared with {member.name}; end that first, "
                    "or leave out --no-cache-shared"
                )
        mark.unlink()
    except OSError as exc:
        raise CacheError(f"cannot examine {root / SHARED}: {exc.strerror}") from exc


def _warn_of_other_hosts(root: Path) -> None:
    if is_remote(root):
        logger.warning(
            "the cache directory %s is on %s: if several hosts use it, say --cache-shared, as "
            "their locks may not keep each other out",
            root,
            file_system_type(root),
        )


def is_remote(path: Path) -> bool:
    """Tell whether a directory, which need not exist, is on a file system of the network."""
    return file_system_type(path) in _REMOTE_TYPES


def file_system_type(path: Path) -> str:
    """Return what a directory is on, such as "ext4" or "nfs4"; empty if nothing tells."""
    found, most = "", -1
    with suppress(OSError, ValueError):
        target = path.resolve()
        for each in mounts():
            depth = len(each.mountpoint.parts)
            if target.is_relative_to(each.mountpoint) and depth >= most:
                found, most = each.type, depth
    return found
