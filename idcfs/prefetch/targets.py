"""Where prefetched files go: a directory of the user's, or the cache."""

from __future__ import annotations

import errno
import functools
import os
import stat
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import trio

from idcfs.cache import ContentCheck
from idcfs.errors import CacheError, IntegrityError
from idcfs.fetch import Brought
from idcfs.fetch.copying import copy_cached, read_through
from idcfs.fetch.unfinished import SUFFIX as UNFINISHED_SUFFIX
from idcfs.model import Checksum, ObjectRef

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache import Cache
    from idcfs.fetch import Fetcher
    from idcfs.model import Listing, Series

_READ_BYTES = 1 << 20


class Verify(Enum):
    """How a file is told to be right, one that is there already and one that arrives.

    What goes into the cache is always verified in full when it arrives.
    """

    LENGTH = "length"
    """It has the object's length."""
    FULL = "full"
    """It also has the object's MD5, where the store gives one."""


class Target(Protocol):
    """Takes the files of series. `bring` belongs on the trio thread, the rest in any."""

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """Have the file there, whole and right.

        `directory` is the one that the template gives the series. Raises StoreError,
        CacheError or OSError.
        """
        ...

    def place(self, ref: ObjectRef, directory: str) -> str | None:
        """Return where the file goes; None for the cache, where nobody need look for it."""
        ...

    def present_bytes(self, series: Series, directory: str) -> int:
        """Return roughly how much of a series is there already."""
        ...


class DirectoryTarget:
    """Files below a directory, under the paths of the template: from the cache, or fetched."""

    def __init__(
        self, root: Path, cache: Cache, *, verify: Verify, disk: trio.CapacityLimiter
    ) -> None:
        self._root = root
        self._cache = cache
        self._verify = verify
        self._disk = disk

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """See `Target.bring`."""
        path = self._path(ref, directory)
        return await fetcher.download(
            ref,
            path,
            find_present=functools.partial(self._find, path, ref),
            verify_content=self._verify is Verify.FULL,
        )

    def place(self, ref: ObjectRef, directory: str) -> str:
        """See `Target.place`."""
        return str(self._path(ref, directory))

    def present_bytes(self, series: Series, directory: str) -> int:
        """See `Target.present_bytes`."""
        try:
            with os.scandir(self._root / directory) as entries:
                found = sum(_held_bytes(entry) for entry in entries if entry.is_file())
        except OSError:
            return 0
        return min(found, series.size_bytes)

    def _path(self, ref: ObjectRef, directory: str) -> Path:
        return self._root / directory / ref.instance.name

    def _find(self, path: Path, ref: ObjectRef) -> Brought | None:
        """Have the file there without the store, in a thread, if that can be."""
        return self._find_right(path, ref) or copy_cached(
            self._cache, ref, path, verify_content=self._verify is Verify.FULL
        )

    def _find_right(self, path: Path, ref: ObjectRef) -> Brought | None:
        """Check the file that is there; make its directory if there is none.

        Returns None if there is no file, or not the right one.
        """
        try:
            status = path.lstat()
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            return None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory is in the way")
        if not stat.S_ISREG(status.st_mode) or status.st_size != ref.instance.size_bytes:
            return None
        if self._verify is Verify.LENGTH:
            return Brought(False, None)
        check = _read_content(path, ref)
        return Brought(False, check.checksum) if check else None


class CacheTarget:
    """Objects in the cache, where the mount finds them without a network."""

    def __init__(self, cache: Cache, *, verify: Verify, disk: trio.CapacityLimiter) -> None:
        self._cache = cache
        self._verify = verify
        self._disk = disk

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """See `Target.bring`."""
        if self._verify is Verify.FULL:
            await trio.to_thread.run_sync(self._drop_if_wrong, ref, limiter=self._disk)
        fetched = await fetcher.ensure(ref)
        md5 = ref.instance.md5  # or what is cheaper and came along: the cache does not tell
        return Brought(fetched, Checksum("md5", bytes.fromhex(md5)) if md5 else None)

    def place(self, ref: ObjectRef, directory: str) -> None:
        """See `Target.place`."""

    def present_bytes(self, series: Series, directory: str) -> int:
        """See `Target.present_bytes`."""
        try:
            listing = self._cache.find_listing(series.uuid)
            return sum(self._held_bytes(series, listing)) if listing else 0
        except CacheError:
            return 0

    def _held_bytes(self, series: Series, listing: Listing) -> list[int]:
        held = []
        for instance in listing.instances:
            ref = ObjectRef(series.bucket, series.uuid, instance)
            cached = self._cache.open(ref)
            held.append(0 if cached.missing(ref.whole) else instance.size_bytes)
            cached.close()
        return held

    def _drop_if_wrong(self, ref: ObjectRef) -> None:
        """Read what the cache holds of an object, in a thread, and discard it if it is wrong."""
        cached = self._cache.open(ref)
        try:
            if cached.missing(ref.whole):
                return
            read_through(cached, ref)
        except (CacheError, IntegrityError):
            cached.discard(ref.whole)
        finally:
            cached.close()


def _held_bytes(entry: os.DirEntry[str]) -> int:
    """Return how much of an object a file has: an unfinished one may have holes."""
    status = entry.stat()
    if entry.name.endswith(UNFINISHED_SUFFIX):
        return min(status.st_size, status.st_blocks * 512)
    return 0 if entry.name[0] == "." else status.st_size


def _read_content(path: Path, ref: ObjectRef) -> ContentCheck | None:
    """Return what a file's content was held against; None if it is not the object's."""
    check = ContentCheck(ref, ref.whole)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            trio.from_thread.check_cancelled()
            check.update(memoryview(chunk))
    try:
        check.finish()
    except IntegrityError:
        return None
    return check
