"""The checksums of one object's blocks, and which of them have been verified.

A block is what one checksum covers. Whoever opens an object trusts none of its blocks
until it has compared each, at its first use, with the checksum that was written when the
block came in. So neither a power cut nor another process nor an ageing disk can slip a
wrong byte in between, and nothing needs to be synced.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING

from idcfs.crc import crc32
from idcfs.errors import CacheError
from idcfs.model import Extent

if TYPE_CHECKING:
    from idcfs.model import Bytes

_MISSING, _STORED, _VERIFIED = range(3)

_HEADER = struct.Struct("<4sI8s")
_MAGIC = b"IDC1"


class Blocks:
    """What is known of the blocks of one object, in memory. Any thread."""

    def __init__(self, size_bytes: int, block_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.block_bytes = block_bytes
        self.count = -(-size_bytes // block_bytes)
        self.sums = array("I", bytes(4 * self.count))
        self._states = bytearray(self.count)

    def numbers(self, extent: Extent) -> range:
        """Return the numbers of the blocks that `extent` touches."""
        if not extent.length:
            return range(0)
        return range(extent.offset // self.block_bytes, -(-extent.end // self.block_bytes))

    def extent_of(self, numbers: range) -> Extent:
        """Return the bytes of adjacent blocks, clipped to the object's end."""
        start = numbers.start * self.block_bytes
        return Extent(start, min(numbers.stop * self.block_bytes, self.size_bytes) - start)

    def has(self, extent: Extent) -> bool:
        """Tell whether every block that `extent` touches is stored."""
        numbers = self.numbers(extent)
        return self._states.find(_MISSING, numbers.start, numbers.stop) < 0

    def has_block(self, number: int) -> bool:
        """Tell whether one block is stored."""
        return self._states[number] != _MISSING

    def is_verified(self, extent: Extent) -> bool:
        """Tell whether every block that `extent` touches has been compared to its checksum.

        `extent` must not be empty. On the path of every hit: most are in one block.
        """
        offset, size = extent.offset, self.block_bytes
        first, last = offset // size, (offset + extent.length - 1) // size
        if first == last:
            return self._states[first] == _VERIFIED
        return self._states.count(_VERIFIED, first, last + 1) == last + 1 - first

    def note_stored(self, number: int, checksum: int, *, verified: bool = False) -> None:
        """Count a block as stored, with the checksum that its bytes must have."""
        if self._states[number] == _VERIFIED and self.sums[number] == checksum:
            return
        self.sums[number] = checksum
        self._states[number] = _VERIFIED if verified else _STORED

    def note_missing(self, number: int) -> None:
        """Count a block as not stored."""
        self._states[number] = _MISSING

    def check(self, extent: Extent, content: Bytes) -> list[int]:
        """Compare whole blocks with their checksums; return the numbers of those that
        differ, or are missing.

        `extent` must begin and end at blocks' borders, or the object's end.
        """
        bad = []
        view = memoryview(content)
        for number in self.numbers(extent):
            start = number * self.block_bytes - extent.offset
            checksum = crc32(view[start : start + self.block_bytes])
            if self._states[number] == _MISSING or checksum != self.sums[number]:
                bad.append(number)
            elif self._states[number] == _STORED:
                self._states[number] = _VERIFIED
        return bad

    def encode(self, identity: bytes) -> bytes:
        """Return the checksums as they are kept beside the whole object of this identity."""
        return _HEADER.pack(_MAGIC, self.block_bytes, identity) + _little_endian(self.sums)


def decode_blocks(size_bytes: int, identity: bytes, content: bytes) -> Blocks | None:
    """Return the blocks of a whole object from its kept checksums; None if they are not its."""
    if len(content) < _HEADER.size:
        return None
    magic, block_bytes, whose = _HEADER.unpack_from(content)
    if magic != _MAGIC or not block_bytes or whose != identity:
        return None
    blocks = Blocks(size_bytes, block_bytes)
    if len(content) != _HEADER.size + 4 * blocks.count:
        return None
    blocks.sums = array("I", content[_HEADER.size :])
    if sys.byteorder == "big":
        blocks.sums.byteswap()
    blocks._states = bytearray([_STORED]) * blocks.count
    return blocks


class Summing:
    """Makes the checksums of blocks while their bytes arrive in order."""

    def __init__(self, block_bytes: int) -> None:
        self.sums: list[int] = []
        self._block_bytes = block_bytes
        self._sum = 0
        self._filled = 0

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        while chunk:
            part = chunk[: self._block_bytes - self._filled]
            self._sum = crc32(part, self._sum)
            self._filled += len(part)
            chunk = chunk[len(part) :]
            if self._filled == self._block_bytes:
                self._end_block()

    def finish(self) -> list[int]:
        """Return the checksum of every block; the last may be short."""
        if self._filled:
            self._end_block()
        return self.sums

    def _end_block(self) -> None:
        self.sums.append(self._sum)
        self._sum, self._filled = 0, 0


def require_good(bad: list[int], name: str) -> None:
    """Raise CacheError if any block proved damaged."""
    if bad:
        raise CacheError(f"{name} is damaged on disk (block {bad[0]})")


def _little_endian(sums: array[int]) -> bytes:
    if sys.byteorder == "big":
        sums = array("I", sums)
        sums.byteswap()
    return sums.tobytes()
