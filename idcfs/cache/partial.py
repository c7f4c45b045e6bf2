"""An object while it fills: a sparse file that carries its own table of blocks.

    [0, size)                    the object's bytes, holes where none have come yet
    [size rounded up to 4 KiB)   8 bytes a block: its CRC-32, and the same again, masked
    the last 32 bytes            magic, block size, object size, its mark, CRC-32 of these

Table and content are one file, so that they come and go together. A block is stored when
its record says so, and its record is written after its bytes: whoever dies in between has
stored nothing. Any number of processes write different blocks of one file at once. When
all are there, the table is cut off and the file gets its final name.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from idcfs.cache import units as sizes
from idcfs.cache.blocks import Blocks
from idcfs.cache.files import OPENING, Descriptor, make_hole, remove_same, write_fully
from idcfs.cache.scratch import move, remove_quietly
from idcfs.crc import crc32
from idcfs.errors import CacheError
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from idcfs.cache.paths import Paths
    from idcfs.cache.scratch import ScratchSpace

_PAGE_BYTES = 4096
_RECORD = struct.Struct("<II")
_MASK = 0x69646366
"""Makes the record of a block whose CRC is 0 differ from a hole."""

_TRIES = 100
"""How often a new file may be removed before it is locked: each time by another process."""

_FOOTER = struct.Struct("<4sIQ8sI4x")
_CHECKED_BYTES = 24
_MAGIC = b"IDP1"


class PartialFile:
    """An object's file in the tree `partial`. Any thread; the caller holds one lock a file.

    `blocks` is what this process knows of it: other processes add to it unseen until
    `refresh`.
    """

    def __init__(self, paths: Paths, file: Descriptor, size_bytes: int, block_bytes: int) -> None:
        self.path = paths.partial
        self._paths = paths
        self.file = file
        self.blocks = Blocks(size_bytes, block_bytes)
        self._size = size_bytes

    def refresh(self, numbers: range) -> bool:
        """Learn which of the blocks are stored by now. False if the file is no partial any more.

        Raises OSError.
        """
        table = os.pread(
            self.file.number,
            _RECORD.size * len(numbers),
            _table_offset(self._size) + _RECORD.size * numbers.start,
        )
        if len(table) != _RECORD.size * len(numbers):
            return False
        for number, (checksum, masked) in zip(numbers, _RECORD.iter_unpack(table), strict=True):
            if checksum ^ masked == _MASK:
                self.blocks.note_stored(number, checksum)
            else:
                self.blocks.note_missing(number)
        return True

    def record(self, first: int, sums: list[int], *, verified: bool) -> None:
        """Count blocks as stored, whose bytes have been written.

        Raises CacheError if the file was removed or has been completed meanwhile, and
        OSError.
        """
        with self._paths.locked(self.file.number):
            self.require_live()
            self._write_records(first, [(each, each ^ _MASK) for each in sums])
        for number, checksum in enumerate(sums, first):
            self.blocks.note_stored(number, checksum, verified=verified)

    def clear(self, numbers: range) -> None:
        """Count blocks as missing, because they proved unreadable. Raises as `record`."""
        for number in numbers:
            self.blocks.note_missing(number)
        with self._paths.locked(self.file.number):
            self.require_live()
            self._write_records(numbers.start, [(0, 0)] * len(numbers))

    def free(self, extent: Extent) -> None:
        """Give the disk back what was written of blocks that are not stored.

        Nobody else may be writing them. Raises as `record`.
        """
        numbers = self.blocks.numbers(extent)
        with self._paths.locked(self.file.number):
            self.require_live()
            offset = _table_offset(self._size) + _RECORD.size * numbers.start
            table = os.pread(self.file.number, _RECORD.size * len(numbers), offset)
            for number, (checksum, masked) in zip(numbers, _RECORD.iter_unpack(table), strict=True):
                if checksum ^ masked != _MASK:
                    block = self.blocks.extent_of(range(number, number + 1))
                    # The last page is shared with nothing: the table begins behind it.
                    end = _table_offset(self._size) if block.end == self._size else block.end
                    make_hole(self.file.number, block.offset, end - block.offset)

    def write_table(self) -> None:
        """Write down what is known of all blocks. The file is locked. Raises OSError."""
        self._write_records(
            0,
            [
                (each, each ^ _MASK) if self.blocks.has_block(number) else (0, 0)
                for number, each in enumerate(self.blocks.sums)
            ],
        )

    def require_live(self) -> None:
        """Raise CacheError unless the file has its name and its table still."""
        status = os.fstat(self.file.number)
        if not status.st_nlink or status.st_size != _file_bytes(
            self._size, self.blocks.block_bytes
        ):
            raise CacheError(f"{self.path} was dropped while it was being written")

    def complete(self, keep: Callable[[Blocks], None], target: Path, scratch: ScratchSpace) -> bool:
        """Give the file its final name, if all blocks are stored; tell whether they are.

        `keep` puts the checksums where they belong. Raises as `record`.
        """
        with self._paths.locked(self.file.number):
            self.require_live()
            self.refresh(range(self.blocks.count))
            if not self.blocks.has(Extent(0, self._size)):
                return False
            keep(self.blocks)
            # From here on it is whole: who finds it so under its old name renames it.
            os.ftruncate(self.file.number, self._size)
            scratch.flush(self.file.number)
            publish(self.file, self.path, target, scratch)
        return True

    def remove(self) -> bool:
        """Remove the name, if it is this file's still; tell whether it was. Never raises."""
        try:
            return remove_same(self.path, os.fstat(self.file.number))
        except OSError:
            return False

    def _write_records(self, first: int, records: list[tuple[int, int]]) -> None:
        table = b"".join(_RECORD.pack(*record) for record in records)
        write_fully(self.file.number, table, _table_offset(self._size) + _RECORD.size * first)


def take_apart(paths: Paths, blocks: Blocks, bad: Collection[int]) -> PartialFile | None:
    """Turn a whole object back into one that fills, without its bad blocks.

    `blocks` are those of the whole. Who has it open goes on reading the same file. None if
    somebody else has changed it meanwhile. Raises OSError, and then the object counts as
    missing, if its table could be written in part only.
    """
    file = Descriptor(os.open(paths.whole, os.O_RDWR | OPENING))
    with paths.locked(file.number):
        if os.fstat(file.number).st_size != blocks.size_bytes:
            return None
        _start(file.number, blocks.size_bytes, paths.identity, blocks.block_bytes)
        partial = PartialFile(paths, file, blocks.size_bytes, blocks.block_bytes)
        good = [number for number in range(blocks.count) if number not in bad]
        for number in good:
            partial.blocks.note_stored(number, blocks.sums[number])
        partial.write_table()
        paths.partial.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.link(paths.whole, paths.partial)
        paths.whole.unlink()
    return partial


def open_described(paths: Paths, file: Descriptor, size_bytes: int) -> PartialFile | None:
    """Return what an open file holds of an object. Raises OSError.

    None if it is damaged; or is completed meanwhile, unless the caller has locked it.
    """
    found = read_footer(file.number, os.fstat(file.number).st_size, paths.identity)
    if found is None or found[0] != size_bytes or sizes.unit_bytes(size_bytes) % found[1]:
        return None
    partial = PartialFile(paths, file, size_bytes, found[1])
    return partial if partial.refresh(range(partial.blocks.count)) else None


def begin_partial(paths: Paths, size_bytes: int) -> PartialFile:
    """Open what is stored of an object so far, or start anew.

    A file that is damaged is replaced. Raises OSError.
    """
    path = paths.partial
    for _ in range(_TRIES):
        try:
            file = Descriptor(_create(path))
        except PermissionError:
            path.unlink()  # somebody changed its mode: a new one can take its place
            continue
        with paths.locked(file.number):
            status = os.fstat(file.number)
            if not status.st_nlink:
                continue  # removed before it was locked
            if status.st_size == 0:
                _start(file.number, size_bytes, paths.identity, sizes.BLOCK_BYTES)
            partial = open_described(paths, file, size_bytes)
            if partial is not None:
                return partial
            remove_same(path, status)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def read_footer(fd: int, file_bytes: int, identity: bytes) -> tuple[int, int] | None:
    """Return the size of the object that a partial file is of, and of its blocks.

    None if its footer is damaged, or another object's.
    """
    footer = os.pread(fd, _FOOTER.size, max(0, file_bytes - _FOOTER.size))
    if len(footer) != _FOOTER.size:
        return None
    magic, block_bytes, size_bytes, whose, checksum = _FOOTER.unpack(footer)
    if magic != _MAGIC or whose != identity or not block_bytes:
        return None
    if checksum != crc32(footer[:_CHECKED_BYTES]):
        return None
    if file_bytes != _file_bytes(size_bytes, block_bytes):
        return None
    return size_bytes, block_bytes


def is_unbegun(fd: int, file_bytes: int) -> bool:
    """Tell whether a partial file has no footer yet: who opens it next begins it anew."""
    return not any(os.pread(fd, _FOOTER.size, max(0, file_bytes - _FOOTER.size)))


def publish(file: Descriptor, path: Path, target: Path, scratch: ScratchSpace) -> None:
    """Give the file that is open, and no other, its final name. Raises OSError.

    By its descriptor, as another process may have removed `path` and begun it anew.
    """
    unfinished = scratch.name()
    # `src_dir_fd` is only there to have Python call linkat, which follows the link, not link.
    os.link(f"/proc/self/fd/{file.number}", unfinished, src_dir_fd=file.number)
    try:
        move(unfinished, target)
    finally:
        # Still there if another was first: rename(2) does nothing between names of one file.
        remove_quietly(unfinished)
    remove_same(path, os.fstat(file.number))


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | OPENING
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def table_bytes(size_bytes: int) -> int:
    """Return what the table of a partial file occupies at most."""
    table = _file_bytes(size_bytes, sizes.BLOCK_BYTES) - _table_offset(size_bytes)
    return -(-table // _PAGE_BYTES) * _PAGE_BYTES


def _start(fd: int, size_bytes: int, identity: bytes, block_bytes: int) -> None:
    os.ftruncate(fd, _file_bytes(size_bytes, block_bytes))
    fields = (_MAGIC, block_bytes, size_bytes, identity)
    checksum = crc32(_FOOTER.pack(*fields, 0)[:_CHECKED_BYTES])
    footer = _FOOTER.pack(*fields, checksum)
    write_fully(fd, footer, _file_bytes(size_bytes, block_bytes) - _FOOTER.size)


def _table_offset(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES


def _file_bytes(size_bytes: int, block_bytes: int) -> int:
    count = -(-size_bytes // block_bytes)
    return _table_offset(size_bytes) + _RECORD.size * count + _FOOTER.size
