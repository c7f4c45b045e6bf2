"""One object in the cache: a plain file when whole, a sparse one while it fills.

Small objects are one unit and are fetched whole. Larger ones are fetched in
aligned units into a sparse scratch file, which moves under the object's name when
the last unit is there and the content has been checked.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache.scratch import remove_quietly
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
        with suppress(OSError):
            os.close(self.number)


class DiskObject:
    """A `CachedObject` on a local file system. See the protocol for the contract.

    Writers run in worker threads while the event loop asks `missing`: what they
    share is changed under the lock, which is never held while waiting for the disk
    longer than it takes to open, rename or unlink a file.
    """

    def __init__(self, ref: ObjectRef, path: Path, scratch: Scratch) -> None:
        self._ref = ref
        self._path = path
        self._scratch = scratch
        self._lock = threading.Lock()
        self._size = ref.instance.size_bytes
        self._stored: set[Extent] = set()
        self._writers: dict[Extent, UnitWriter] = {}
        self._partial: Path | None = None
        self._file = self._open_whole()
        self._whole = self._file is not None

    def _open_whole(self) -> _Descriptor | None:
        """Open the finished file, if there is one of the right size."""
        # O_NONBLOCK: were it a pipe, opening it would wait for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            file = _Descriptor(os.open(self._path, flags))
            status = os.fstat(file.number)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise CacheError(f"cannot open {self._path}: {exc}") from exc
        right = stat.S_ISREG(status.st_mode) and status.st_size == self._size
        return file if right else None

    def missing(self, extent: Extent) -> list[Extent]:
        """See `CachedObject.missing`."""
        if self._whole:
            return []
        return [unit for unit in units(self._size, extent) if unit not in self._stored]

    def writer(self, extent: Extent) -> UnitWriter:
        """See `CachedObject.writer`."""
        with self._lock:
            if not self.missing(extent):
                # Nothing may be written over bytes that were checked and may be in use.
                raise CacheError(f"{self._path} was stored meanwhile")
            check = ContentCheck(self._ref, extent)
            writer = UnitWriter(self, extent, check, self._writable())
            former = self._writers.get(extent)
            self._writers[extent] = writer
        if former is not None:
            former.abort()
        return writer

    def _writable(self) -> _Descriptor:
        if self._file is None:
            try:
                self._partial, fd = self._scratch.create()
            except OSError as exc:
                raise CacheError(f"cannot write to the cache: {exc.strerror}") from exc
            self._file = _Descriptor(fd)
        return self._file

    def store_unit(self, writer: UnitWriter) -> None:
        """Count a writer's unit as stored; the last one moves the file under its name.

        Raises IntegrityError when the whole has another MD5 than promised, CacheError
        when the disk fails or another writer or a discard came between.
        """
        extent, whole = writer.extent, self._ref.whole
        with self._lock:
            if self._writers.get(extent) is not writer:
                raise CacheError(f"{self._path} was dropped while it was being written")
            del self._writers[extent]
            self._stored.add(extent)
            if self.missing(whole):
                return
        try:
            if extent != whole:
                self._check_whole(writer.file)
            self._promote(writer.file)
        except (CacheError, IntegrityError):
            with self._lock:
                if writer.file is self._file:
                    self._forget()
            raise

    def _check_whole(self, file: _Descriptor) -> None:
        """Check the MD5 of an object that came in pieces, before it gets its name."""
        if self._ref.instance.md5 is not None:
            check = ContentCheck(self._ref, self._ref.whole)
            for offset in range(0, self._size, _COPY_BYTES):
                length = min(_COPY_BYTES, self._size - offset)
                check.update(memoryview(self._read_from(file, Extent(offset, length))))
            check.finish()
        try:
            # Pieces come in any order: after a power cut the length alone could be right.
            os.fdatasync(file.number)
        except OSError as exc:
            raise CacheError(f"cannot keep {self._path}: {exc.strerror}") from exc

    def _promote(self, file: _Descriptor) -> None:
        with self._lock:
            if file is not self._file or self._partial is None:
                raise CacheError(f"{self._path} was dropped while it was being written")
            try:
                _move(self._partial, self._path)
            except OSError as exc:
                raise CacheError(f"cannot keep {self._path}: {exc.strerror}") from exc
            self._partial, self._whole = None, True

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
        return self._read_from(file, extent)

    def _read_from(self, file: _Descriptor, extent: Extent) -> Bytes:
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
                remove_quietly(self._path)
            self._forget()

    def close(self) -> None:
        """See `CachedObject.close`."""
        with self._lock:
            self._forget()

    def forget_writer(self, writer: UnitWriter) -> None:
        """Expect no `store_unit` of this writer any more."""
        with self._lock:
            if self._writers.get(writer.extent) is writer:
                del self._writers[writer.extent]

    def _forget(self) -> None:
        """Let go of the file, and of those who write to it. The lock is held."""
        self._whole = False
        self._stored.clear()
        self._writers.clear()
        self._file = None
        if self._partial is not None:
            remove_quietly(self._partial)
            self._partial = None


class UnitWriter:
    """An `ExtentWriter` for one unit of a `DiskObject`.

    A transfer that was given up may still be running when the next one has started, or
    even finished: `abort` makes sure that it writes no more. Locks are taken in the
    order writer, object.
    """

    def __init__(
        self, target: DiskObject, extent: Extent, check: ContentCheck, file: _Descriptor
    ) -> None:
        self.extent = extent
        self.file = file
        self._target = target
        self._check = check
        self._offset = extent.offset
        self._lock = threading.Lock()
        self._ended = False

    def write(self, chunk: memoryview) -> None:
        """See `ExtentWriter.write`."""
        self._check.update(chunk)
        if self._offset + len(chunk) > self.extent.end:
            # Must not spill into a unit that is stored already; `finish` will say more.
            self._check.finish()
        with self._lock:
            if self._ended:
                raise CacheError("another transfer of the same bytes has started")
            while chunk:
                try:
                    count = os.pwrite(self.file.number, chunk, self._offset)
                except OSError as exc:
                    raise CacheError(f"cannot write to the cache: {exc.strerror}") from exc
                self._offset += count
                chunk = chunk[count:]

    def commit(self) -> None:
        """See `ExtentWriter.commit`."""
        self._check.finish()
        with self._lock:
            if self._ended:
                raise CacheError("another transfer of the same bytes has started")
            self._ended = True
        self._target.store_unit(self)

    def abort(self) -> None:
        """See `ExtentWriter.abort`."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self._check.covers_whole:
                # Gives a full disk its space back; a larger object keeps its other units.
                with suppress(OSError):
                    os.ftruncate(self.file.number, 0)
        self._target.forget_writer(self)


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        source.rename(target)
