"""One object in the cache: a plain file when whole, a sparse one while it fills.

Small objects are one unit and are fetched whole. Larger ones are fetched in
aligned units into a sparse scratch file, which moves under the object's name when
the last unit is there and the content has been checked.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from idcfs.cache.units import units
from idcfs.cache.verify import ContentCheck
from idcfs.errors import CacheError, IntegrityError
from idcfs.model import Bytes, Extent

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.scratch import Scratch
    from idcfs.model import ObjectRef

_COPY_BYTES = 1 << 20

_NOT_NOW = {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
"""What `preadv(RWF_NOWAIT)` says when the bytes are not in memory, or cannot say."""


class _Descriptor:
    """An open file, closed when its last user lets go of it.

    Threads may still be reading when an object is discarded: were the number closed
    under them, the kernel could give it to another file, and they would read that.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class DiskObject:
    """A `CachedObject` on a local file system. See the protocol for the contract.

    Writers run in worker threads while the event loop asks `missing`: what they
    share is `_stored` and the descriptor, changed under the lock.
    """

    def __init__(self, ref: ObjectRef, path: Path, scratch: Scratch) -> None:
        self._ref = ref
        self._path = path
        self._scratch = scratch
        self._lock = threading.Lock()
        self._size = ref.instance.size_bytes
        self._stored: set[Extent] = set()
        self._partial: Path | None = None
        self._file = self._open_whole()
        self._whole = self._file is not None

    def _open_whole(self) -> _Descriptor | None:
        """Open the finished file, if there is one of the right size."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise CacheError(f"cannot open {self._path}: {exc.strerror}") from exc
        file = _Descriptor(fd)
        return file if os.fstat(fd).st_size == self._size else None

    def missing(self, extent: Extent) -> list[Extent]:
        """See `CachedObject.missing`."""
        if self._whole:
            return []
        return [unit for unit in units(self._size, extent) if unit not in self._stored]

    def writer(self, extent: Extent) -> UnitWriter:
        """See `CachedObject.writer`."""
        return UnitWriter(self, extent, ContentCheck(self._ref, extent), self._writable())

    def _writable(self) -> _Descriptor:
        with self._lock:
            if self._file is None:
                path = self._scratch.new_path()
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                try:
                    self._file = _Descriptor(os.open(path, flags, 0o600))
                except OSError as exc:
                    raise CacheError(f"cannot write to {path}: {exc.strerror}") from exc
                self._partial = path
            return self._file

    def store_unit(self, extent: Extent, file: _Descriptor) -> None:
        """Count a unit as stored in `file`; the last one moves the file under its name.

        Raises IntegrityError when the whole has another MD5 than promised, CacheError
        when the disk fails or the file was discarded meanwhile.
        """
        with self._lock:
            if file is not self._file:
                raise CacheError(f"{self._path} was dropped while it was being written")
            self._stored.add(extent)
            if self._partial is None or self.missing(self._ref.whole):
                return
            if extent != self._ref.whole:
                self._check_whole()
            try:
                _move(self._partial, self._path)
            except OSError as exc:
                self._stored.clear()
                raise CacheError(f"cannot keep {self._path}: {exc.strerror}") from exc
            self._partial, self._whole = None, True

    def _check_whole(self) -> None:
        """Check the MD5 of an object that came in pieces, before it gets its name."""
        check = ContentCheck(self._ref, self._ref.whole)
        for offset in range(0, self._size, _COPY_BYTES):
            length = min(_COPY_BYTES, self._size - offset)
            check.update(memoryview(self.read(Extent(offset, length))))
        try:
            check.finish()
        except IntegrityError:
            self._stored.clear()
            raise

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """See `CachedObject.read_nowait`."""
        if (file := self._file) is None:
            return None
        buffer = bytearray(extent.length)
        try:
            count = os.preadv(file.number, [buffer], extent.offset, os.RWF_NOWAIT)
        except OSError as exc:
            if exc.errno in _NOT_NOW:
                return None
            raise CacheError(f"cannot read {self._path}: {exc.strerror}") from exc
        return buffer if count == extent.length else None

    def read(self, extent: Extent) -> Bytes:
        """See `CachedObject.read`."""
        if (file := self._file) is None:
            raise CacheError(f"{self._path} is not in the cache")
        try:
            content = os.pread(file.number, extent.length, extent.offset)
        except OSError as exc:
            raise CacheError(f"cannot read {self._path}: {exc.strerror}") from exc
        if len(content) != extent.length:
            raise CacheError(f"{self._path} was cut short")
        return content

    def discard(self) -> None:
        """See `CachedObject.discard`."""
        with self._lock:
            if self._whole:
                self._path.unlink(missing_ok=True)
            self._release()
            self._stored.clear()
            self._whole = False

    def close(self) -> None:
        """See `CachedObject.close`."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        self._file = None
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
            self._partial = None


class UnitWriter:
    """An `ExtentWriter` for one unit of a `DiskObject`."""

    def __init__(
        self, target: DiskObject, extent: Extent, check: ContentCheck, file: _Descriptor
    ) -> None:
        self._target = target
        self._extent = extent
        self._check = check
        self._file = file
        self._offset = extent.offset

    def write(self, chunk: memoryview) -> None:
        """See `ExtentWriter.write`."""
        self._check.update(chunk)
        if self._offset + len(chunk) > self._extent.end:
            # Must not spill into a unit that is stored already; `finish` will say more.
            self._check.finish()
        while chunk:
            try:
                count = os.pwrite(self._file.number, chunk, self._offset)
            except OSError as exc:
                raise CacheError(f"cannot write to the cache: {exc.strerror}") from exc
            self._offset += count
            chunk = chunk[count:]

    def commit(self) -> None:
        """See `ExtentWriter.commit`."""
        self._check.finish()
        self._target.store_unit(self._extent, self._file)

    def abort(self) -> None:
        """See `ExtentWriter.abort`."""


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source.rename(target)
