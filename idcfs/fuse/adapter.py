"""Turns pyfuse3's requests into calls of the file system, and answers into replies."""

from __future__ import annotations

import errno
import functools
import logging
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import pyfuse3

from idcfs.errors import (
    IdcfsError,
    NoSuchAttributeError,
    NoSuchEntryError,
    StoreUnavailableError,
)
from idcfs.fuse.errno_table import errno_of
from idcfs.model import Extent
from idcfs.vfs.attributes import FRAGMENT_BYTES
from idcfs.vfs.filesystem import Handle
from idcfs.vfs.inodes import Inode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from idcfs.vfs.attributes import Attributes
    from idcfs.vfs.extended import ExtendedAttributes
    from idcfs.vfs.figures import RequestFigures
    from idcfs.vfs.filesystem import FileSystem
    from idcfs.vfs.hidden import HiddenDirectory

logger = logging.getLogger(__name__)

_NAME_LIMIT_BYTES = 255
_XATTR_NAMESPACE = b"user."
_BLOCK_BYTES = 128 * 1024
"""What `stat` recommends as the unit of reading: the largest request the kernel sends."""

P = ParamSpec("P")
R = TypeVar("R")


def _handler(
    method: Callable[Concatenate[Adapter, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Adapter, P], Coroutine[Any, Any, R]]:
    """Let only FUSEError out of a handler: nothing may end the main loop."""

    @functools.wraps(method)
    async def handle(self: Adapter, /, *args: P.args, **kwargs: P.kwargs) -> R:
        began = time.perf_counter()
        self._figures.under_way += 1
        try:
            return await method(self, *args, **kwargs)
        except NoSuchEntryError:
            raise pyfuse3.FUSEError(errno.ENOENT) from None
        except NoSuchAttributeError:
            raise pyfuse3.FUSEError(errno.ENODATA) from None
        except IdcfsError as exc:
            self._figures.errors[type(exc).__name__] += 1
            is_told = isinstance(exc, StoreUnavailableError) and exc.is_told
            logger.log(
                logging.DEBUG if is_told else logging.WARNING, "%s: %s", method.__name__, exc
            )
            raise pyfuse3.FUSEError(errno_of(exc)) from exc
        except pyfuse3.FUSEError:
            raise
        except Exception as exc:
            self._figures.errors[type(exc).__name__] += 1
            logger.exception("%s failed; this is a bug in idcfs", method.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from exc
        finally:
            self._figures.under_way -= 1
            self._figures.record(method.__name__, time.perf_counter() - began)

    return handle


class Adapter(pyfuse3.Operations):
    """The file system as pyfuse3 wants it. Writing is refused by the kernel (mounted `ro`).

    There is no `flush`: to hear so once (ENOSYS) spares the kernel a request at each `close`.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        file_system: FileSystem,
        extended: ExtendedAttributes,
        hidden: HiddenDirectory,
        figures: RequestFigures,
    ) -> None:
        super().__init__()
        self._fs = file_system
        self._extended = extended
        self._hidden = hidden
        self._figures = figures

    @_handler
    async def lookup(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Find an entry by name."""
        if len(name) > _NAME_LIMIT_BYTES:  # the kernel lets up to 1,024 bytes through
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        edition = self._fs.edition
        try:
            if (found := self._hidden.find(Inode(parent_inode), name.decode())) is not None:
                self._fs.lookup_count += 1
                return _entry(found)
            return _entry(await self._fs.lookup(Inode(parent_inode), name.decode()))
        except (NoSuchEntryError, UnicodeDecodeError):  # every name of ours is UTF-8
            return _absent(edition.absence_ttl_s(Inode(parent_inode)))

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Take references back. Must not raise."""
        self._fs.forget(sum(lookups for _, lookups in inode_list))

    @_handler
    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Tell attributes."""
        if self._hidden.owns(inode):
            return _entry(self._hidden.getattr(Inode(inode)))
        return _entry(await self._fs.getattr(Inode(inode)))

    @_handler
    async def opendir(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileHandleT:
        """Open a directory."""
        if self._hidden.owns(inode):
            return pyfuse3.FileHandleT(inode)
        return pyfuse3.FileHandleT(await self._fs.opendir(Inode(inode)))

    @_handler
    async def readdir(
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        """Tell entries until the kernel's buffer is full."""
        directory = self._hidden if self._hidden.owns(fh) else self._fs
        for name, attributes, next_id in directory.readdir(Handle(fh), start_id):
            if not pyfuse3.readdir_reply(
                token, pyfuse3.FileNameT(name.encode()), _entry(attributes), next_id
            ):
                break
            if name not in {".", ".."}:
                self._fs.lookup_count += 1

    @_handler
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Close a directory."""
        if not self._hidden.owns(fh):
            self._fs.releasedir(Handle(fh))

    @_handler
    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """Open a file."""
        if self._hidden.owns(inode):
            made = await self._hidden.open(Inode(inode))
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(made), direct_io=True, keep_cache=False)
        handle = await self._fs.open(Inode(inode))
        # The content never changes: pages that the kernel holds stay right for ever.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), keep_cache=True)

    @_handler
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Read from a file. pyfuse3 takes any buffer, though it asks for bytes."""
        extent = Extent(off, size)
        if self._hidden.owns(fh):
            return await self._hidden.read(Handle(fh), extent)
        content = await self._fs.read(Handle(fh), extent)
        self._figures.read_bytes += len(content)
        return cast("bytes", content)

    @_handler
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Close a file."""
        if self._hidden.owns(fh):
            self._hidden.release(Handle(fh))
        else:
            self._fs.release(Handle(fh))

    @_handler
    async def getxattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> bytes:
        """Tell an extended attribute.

        `ls -l` asks for ACLs and labels of every entry, until it hears that there is no such
        thing here at all; "not this one" would make it go on.
        """
        if not name.startswith(_XATTR_NAMESPACE):
            raise pyfuse3.FUSEError(errno.ENOTSUP)
        if self._hidden.owns(inode):
            raise pyfuse3.FUSEError(errno.ENODATA)
        text = name.decode(errors="surrogateescape")
        return (await self._extended.get(Inode(inode), text)).encode()

    @_handler
    async def listxattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """Tell the names of the extended attributes."""
        if self._hidden.owns(inode):
            return []
        names = await self._extended.names(Inode(inode))
        return [pyfuse3.XAttrNameT(name.encode()) for name in names]

    @_handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Tell the size of the selection."""
        totals = self._fs.statfs()
        reply = pyfuse3.StatvfsData()
        reply.f_bsize = _BLOCK_BYTES
        reply.f_frsize = FRAGMENT_BYTES
        reply.f_blocks = totals.fragments
        reply.f_bfree = reply.f_bavail = 0
        reply.f_files = totals.files
        reply.f_ffree = reply.f_favail = 0
        reply.f_namemax = _NAME_LIMIT_BYTES
        return reply


def _entry(attributes: Attributes) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(attributes.inode)
    entry.st_mode = pyfuse3.ModeT(attributes.mode)
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_size = attributes.size_bytes
    entry.st_blksize = _BLOCK_BYTES
    entry.st_blocks = attributes.blocks
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
    entry.entry_timeout = entry.attr_timeout = attributes.ttl_s
    return entry


def _absent(ttl_s: float) -> pyfuse3.EntryAttributes:
    """Inode 0 with a timeout: the kernel remembers that the name is missing."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(0)
    entry.entry_timeout = ttl_s
    return entry
