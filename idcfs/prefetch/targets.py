"""Where prefetched files go: a directory of the user's, or the cache."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import stat
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from idcfs.cache import ContentCheck
from idcfs.errors import CacheError, IdcfsError, IntegrityError
from idcfs.fetch import Brought
from idcfs.fetch.copying import copy_cached, read_through
from idcfs.fetch.unfinished import SUFFIX as UNFINISHED_SUFFIX
from idcfs.model import Checksum, ObjectRef
from idcfs.prefetch.directories import Directories, Remembered
from idcfs.prefetch.space import room_bytes

if TYPE_CHECKING:
    from idcfs.cache import Cache
    from idcfs.cache.protocol import FindChecksums
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
    """It also has the object's MD5, or another checksum that the store keeps, if it has any."""


class NotRightError(IdcfsError):
    """What is there is not the object, or nothing is there."""


class NotThereError(NotRightError):
    """Nothing is there."""

    def __init__(self) -> None:
        super().__init__("is not there")


class Target(Protocol):
    """Takes the files of series. What is async belongs on the trio thread, the rest in any."""

    @property
    def downloads(self) -> bool:
        """Whether it has a fetcher download files, the small ones by a carrier."""
        ...

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """Have the file there, whole and right.

        `directory` is the one that the template gives the series. Raises StoreError,
        CacheError or OSError.
        """
        ...

    async def examine(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """Return what is there, if that is the object, and change nothing.

        Raises NotRightError if it is not, and OSError or CacheError if that cannot be told.
        """
        ...

    def place(self, ref: ObjectRef, directory: str) -> str | None:
        """Return where the file goes; None for the cache, where nobody need look for it."""
        ...

    def present_bytes(self, series: Series, directory: str) -> int:
        """Return roughly what room the files of a series take already; see `space.room_bytes`."""
        ...


class DirectoryTarget:
    """Files below a directory, under the paths of the template: from the cache, or fetched."""

    downloads = True

    def __init__(
        self, root: Path, cache: Cache, *, verify: Verify, disk: trio.CapacityLimiter
    ) -> None:
        self._root = root
        self._cache = cache
        self._verify = verify
        self._disk = disk
        self._directories = Directories()
        self._cached = Remembered(cache.may_have_of)

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """See `Target.bring`."""
        # No `Path` for each of many files: it takes as long to make as a file to open.
        place = self.place(ref, directory)
        parent = os.path.dirname(place)  # noqa: PTH120
        verify_content = self._verify is Verify.FULL
        was_wrong = False

        def is_absent() -> bool:
            is_new = self._directories.make(parent)
            return (is_new or not os.path.lexists(place)) and not self._cached(ref.series)

        def find_present() -> Brought | None:
            nonlocal was_wrong
            if not self._directories.make(parent):
                try:
                    return self._examine(Path(place), ref, fetcher.checksum_finder(ref))
                except NotThereError:
                    pass
                except NotRightError:
                    was_wrong = True
            if not self._cached(ref.series):
                return None
            return copy_cached(self._cache, ref, Path(place), verify_content=verify_content)

        bring = functools.partial(
            fetcher.download,
            ref,
            place,
            find_present=find_present,
            is_absent=is_absent,
            verify_content=verify_content,
        )
        try:
            brought = await bring()
        except FileNotFoundError:  # somebody has removed the directory meanwhile
            self._directories.forget(parent)
            brought = await bring()
        return dataclasses.replace(brought, replaced=True) if was_wrong else brought

    async def examine(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """See `Target.examine`."""
        path, find_checksums = Path(self.place(ref, directory)), fetcher.checksum_finder(ref)
        return await trio.to_thread.run_sync(
            self._examine, path, ref, find_checksums, limiter=self._disk
        )

    def place(self, ref: ObjectRef, directory: str) -> str:
        """See `Target.place`."""
        return os.path.join(self._root, directory, ref.instance.name)  # noqa: PTH118  # for each file

    def present_bytes(self, series: Series, directory: str) -> int:
        """See `Target.present_bytes`."""
        try:
            with os.scandir(self._root / directory) as entries:
                held = [_held_bytes(entry) for entry in entries if entry.is_file()]
        except OSError:
            return 0
        whole = room_bytes(series.size_bytes, series.instance_count or 0)
        return min(room_bytes(sum(held), len(held)), whole)

    def _examine(self, path: Path, ref: ObjectRef, find_checksums: FindChecksums) -> Brought:
        """Check the file that is there, in a thread. Raises NotRightError."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise NotThereError from None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory is in the way")
        if not stat.S_ISREG(status.st_mode):
            raise NotRightError("is not an ordinary file")
        if status.st_size != ref.instance.size_bytes:
            raise NotRightError(
                f"has {status.st_size:,} bytes, the object in the store {ref.instance.size_bytes:,}"
            )
        if self._verify is Verify.LENGTH:
            return Brought(False, None)
        return Brought(False, _read_content(path, ref, find_checksums).checksum)


class CacheTarget:
    """Objects in the cache, where the mount finds them without a network."""

    downloads = False

    def __init__(self, cache: Cache, *, verify: Verify, disk: trio.CapacityLimiter) -> None:
        self._cache = cache
        self._verify = verify
        self._disk = disk

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """See `Target.bring`."""
        was_wrong = False
        if self._verify is Verify.FULL:
            was_wrong = await trio.to_thread.run_sync(self._drop_if_wrong, ref, limiter=self._disk)
        fetched = await fetcher.ensure(ref)
        md5 = ref.instance.md5  # or what is cheaper and came along: the cache does not tell
        checksum = Checksum("md5", bytes.fromhex(md5)) if md5 else None
        return Brought(fetched, checksum, replaced=was_wrong)

    async def examine(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """See `Target.examine`."""
        return await trio.to_thread.run_sync(self._examine, ref, limiter=self._disk)

    def place(self, ref: ObjectRef, directory: str) -> None:
        """See `Target.place`."""

    def present_bytes(self, series: Series, directory: str) -> int:
        """See `Target.present_bytes`."""
        try:
            listing = self._cache.find_listing(series.uuid)
            held = list(filter(None, self._held_bytes(series, listing) if listing else ()))
            return room_bytes(sum(held), len(held))
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

    def _examine(self, ref: ObjectRef) -> Brought:
        """Read what the cache holds of an object, in a thread. Raises NotRightError."""
        cached = self._cache.open(ref)
        try:
            if cached.missing(ref.whole):
                raise NotThereError
            return Brought(False, read_through(cached, ref).checksum)
        except (CacheError, IntegrityError) as exc:
            raise NotRightError(str(exc)) from exc
        finally:
            cached.close()

    def _drop_if_wrong(self, ref: ObjectRef) -> bool:
        """Discard what the cache holds of an object, in a thread, if it is wrong. Tell if so."""
        try:
            self._examine(ref)
        except NotThereError:
            return False
        except NotRightError:
            cached = self._cache.open(ref)
            cached.discard(ref.whole)
            cached.close()
            return True
        return False


def _held_bytes(entry: os.DirEntry[str]) -> int:
    """Return how much of an object a file has: an unfinished one may have holes."""
    status = entry.stat()
    if entry.name.endswith(UNFINISHED_SUFFIX):
        return min(status.st_size, status.st_blocks * 512)
    return 0 if entry.name[0] == "." else status.st_size


def _read_content(path: Path, ref: ObjectRef, find_checksums: FindChecksums) -> ContentCheck:
    """Return what a file's content was held against. Raises NotRightError."""
    check = ContentCheck(ref, ref.whole)
    check.ask(find_checksums)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_READ_BYTES):
            trio.from_thread.check_cancelled()
            check.update(memoryview(chunk))
    try:
        check.finish()
    except IntegrityError as exc:
        raise NotRightError(str(exc)) from exc
    return check
