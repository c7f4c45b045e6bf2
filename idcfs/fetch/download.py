"""Fetches whole objects into files of the user's. Runs in worker threads but where it says so."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.cache import ContentCheck
from idcfs.crc import crc32
from idcfs.errors import IntegrityError
from idcfs.fetch.unfinished import unfinished_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.fetch.unfinished import StrPath
    from idcfs.model import Checksum, Extent, ObjectRef
    from idcfs.store import ObjectStore

_HASHED_BYTES = 1 << 20
"""Read back at once to be hashed, while it still is in the page cache."""


@dataclass(frozen=True, slots=True)
class Brought:
    """An object that is where it was wanted."""

    fetched: bool
    """Whether anything of it came from the store; otherwise it was there, or in the cache."""
    checksum: Checksum | None
    """What its content was held against besides its length; None for nothing."""
    replaced: bool = False
    """Whether something else was in its place."""
    copied: bool = False
    """Whether it was not there, and came from the cache."""


class Receiving:
    """A file of the user's that an object's bytes are coming into, in order."""

    def __init__(self, fd: int, check: ContentCheck, *, verify_content: bool) -> None:
        self._fd = fd
        self._check = check
        self.offered = check.expect if verify_content else None
        """To be told of the checksums that come with the object, if they are wanted."""
        self.waited_s = 0.0
        """How long the disk took, in the end with that to make the file and to rename it."""

    def take(self, chunk: memoryview) -> None:
        """Write the next bytes. Raises OSError."""
        self._check.update(chunk)
        started_s = time.perf_counter()
        while chunk:
            chunk = chunk[os.write(self._fd, chunk) :]
        self.waited_s += time.perf_counter() - started_s

    @property
    def brought(self) -> Brought:
        """What there is to tell when all has gone well."""
        return Brought(True, self._check.checksum)


@contextmanager
def receiving(ref: ObjectRef, destination: StrPath, *, verify_content: bool) -> Iterator[Receiving]:
    """Take the object in beside `destination` under a hidden name, check it, and rename it.

    The length is always checked, the content on demand. The modification time becomes the
    object's. Raises IntegrityError or OSError; then, and after any other error, nothing is left
    behind.
    """
    check = ContentCheck(ref, ref.whole, verify_content=verify_content)
    started_s = time.perf_counter()
    with unfinished_file(ref, destination) as fd:
        received = Receiving(fd, check, verify_content=verify_content)
        received.waited_s += time.perf_counter() - started_s
        yield received
        check.finish()
        started_s = time.perf_counter()
    received.waited_s += time.perf_counter() - started_s


def download_object(
    store: ObjectStore, ref: ObjectRef, destination: StrPath, *, verify_content: bool
) -> Brought:
    """Write the object to `destination` as `receiving` does, in a worker thread.

    Raises StoreError besides.
    """
    with receiving(ref, destination, verify_content=verify_content) as received:

        def sink(chunk: memoryview) -> None:
            trio.from_thread.check_cancelled()
            received.take(chunk)

        store.get_extent(
            ref.bucket, ref.key, ref.whole, sink, etag=ref.instance.etag, offered=received.offered
        )
    return received.brought


def download_extent(store: ObjectStore, ref: ObjectRef, extent: Extent, fd: int) -> int:
    """Write one extent of the object to its place in a file, and return its CRC-32.

    Raises as `download_object`.
    """
    offset, crc = extent.offset, 0

    def sink(chunk: memoryview) -> None:
        nonlocal offset, crc
        trio.from_thread.check_cancelled()
        crc = crc32(chunk, crc)
        while chunk:
            count = os.pwrite(fd, chunk, offset)
            offset += count
            chunk = chunk[count:]

    store.get_extent(ref.bucket, ref.key, extent, sink, etag=ref.instance.etag)
    if offset != extent.end:
        raise IntegrityError(f"{ref.url}: {offset - extent.offset} of {extent.length} bytes came")
    return crc


class FollowingCheck:
    """Checks a file that is written in pieces, as far as they join up. One thread at a time."""

    def __init__(self, ref: ObjectRef, fd: int, check: ContentCheck) -> None:
        self._ref = ref
        self._fd = fd
        self._check = check
        self._position = 0

    def follow(self, end: int) -> None:
        """Check what lies before `end`, all of which is written by now. Raises OSError."""
        while self._position < end:
            trio.from_thread.check_cancelled()
            length = min(_HASHED_BYTES, end - self._position)
            content = os.pread(self._fd, length, self._position)
            if not content:
                raise IntegrityError(f"{self._ref.url}: what was written cannot be read back")
            self._check.update(memoryview(content))
            self._position += len(content)

    def finish(self) -> None:
        """Raise IntegrityError unless the content is what was promised."""
        self.follow(self._ref.instance.size_bytes)
        self._check.finish()
