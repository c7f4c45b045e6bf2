"""The file of a compiled layout: how it is written, and how it is mapped back.

One file: a preamble, a header in JSON with its SHA-256, then sections at
8-byte boundaries. Numbers are arrays in the machine's byte order and are read
through mmap; names and UUIDs, which are most of the bytes, are read with
pread, so that a walk over the whole tree does not map them into the process.
The header has a CRC-32 of each section, and all are compared when the file is
opened: one flipped bit would show series under another patient's name. A file
that is not exactly as its header says is treated as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import sys
import weakref
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from idcfs.crc import crc32

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FORMAT_VERSION = 2
ABSENT = 0xFFFFFFFF
"""In arrays of u32: no such row, or a count the index does not give."""

_MAGIC = b"IDCFSLAY"
# magic, format version, length of the header, its SHA-256
_PREAMBLE = struct.Struct("<8sII32s")
_ALIGNMENT = 8
# Far above any real header; a garbled length must not make us read gigabytes.
_HEADER_MAX_BYTES = 1 << 20
# The sections are checked through a buffer of this size, which larger ones do not make faster.
_CHECKED_AT_ONCE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a layout file says of itself."""

    identity: str
    """What it was compiled from: fingerprint of the index, template, selected rows."""
    depth: int
    series_count: int
    refused_count: int
    """Rows of the index left out because their UUID or bucket is not one."""
    instance_count: int
    size_bytes: int
    widest_leaf_instances: int
    mtime_ns: int
    buckets: list[str]
    level_counts: list[int]
    """The number of directories of each level, from the root's 1."""
    sections: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Offset, from the end of the header, length in bytes, and CRC-32."""
    byte_order: str = sys.byteorder


class LayoutFileError(Exception):
    """A layout file is not what it should be; it is to be compiled anew."""


class LayoutFile:
    """A layout file, mapped. Safe to use from several threads until it is closed.

    One that nobody refers to any more closes itself: a mount that goes on to another
    index cannot know when the last request is done with this one.
    """

    def __init__(self, path: Path, identity: str | None = None) -> None:
        """Open `path` and check all of it.

        Takes 9 ms for the whole of IDC, 136 MB, and as long as the disk takes to read that
        if it is not in memory.

        Raises LayoutFileError if it is damaged, of another format, or not of `identity`;
        OSError if it cannot be read at all.
        """
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self.descriptor)
        try:
            self.header, self._base = _read_header(self.descriptor)
            if identity is not None and self.header.identity != identity:
                raise LayoutFileError("compiled from something else")
            _check_sections(self.descriptor, self.header, self._base)
            self._map = mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ)
        except BaseException:
            self._close()
            raise
        self._views: list[memoryview[int]] = []

    def numbers(self, section: str, typecode: Literal["B", "I", "Q"]) -> memoryview[int]:
        """Return a section as a read-only array of numbers of that `array` typecode."""
        offset, length, _ = self.header.sections[section]
        start = self._base + offset
        view = memoryview(self._map)[start : start + length].cast(typecode)
        self._views.append(view)
        return view

    def text_offset(self, section: str) -> int:
        """Return where a section begins in the file, for `read`."""
        return self._base + self.header.sections[section][0]

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file."""
        return os.pread(self.descriptor, length, offset)

    def close(self) -> None:
        """Unmap and close; the arrays handed out may not be used afterwards."""
        for view in self._views:
            view.release()
        self._views.clear()
        self._map.close()
        self._close()


def _read_header(descriptor: int) -> tuple[Header, int]:
    """Return the header and where the sections begin. Raises LayoutFileError."""
    size = os.fstat(descriptor).st_size
    preamble = os.pread(descriptor, _PREAMBLE.size, 0)
    if len(preamble) < _PREAMBLE.size:
        raise LayoutFileError("too short")
    magic, version, length, digest = _PREAMBLE.unpack(preamble)
    if magic != _MAGIC or version != FORMAT_VERSION or length > _HEADER_MAX_BYTES:
        raise LayoutFileError("not a layout of this version")
    text = os.pread(descriptor, length, _PREAMBLE.size)
    if hashlib.sha256(text).digest() != digest:
        raise LayoutFileError("the header is damaged")
    header = Header(**json.loads(text))
    base = _aligned(_PREAMBLE.size + length)
    ends = [_aligned(offset + length) for offset, length, _ in header.sections.values()]
    if header.byte_order != sys.byteorder or size != base + max(ends):
        raise LayoutFileError("truncated, or of another machine")
    return header, base


def _check_sections(descriptor: int, header: Header, base: int) -> None:
    """Compare each section with its checksum. Raises LayoutFileError."""
    buffer = memoryview(bytearray(_CHECKED_AT_ONCE_BYTES))
    for section, (offset, length, expected) in header.sections.items():
        at, end, checksum = base + offset, base + offset + length, 0
        # Ends also where the file is cut meanwhile: then the checksum is another.
        while count := os.preadv(descriptor, [buffer[: end - at]], at):
            checksum = crc32(buffer[:count], checksum)
            at += count
        if checksum != expected:
            raise LayoutFileError(f"{section} is damaged")


class LayoutWriter:
    """Writes a layout file: sections as they come, then the header in front of them.

    The header's place is reserved, so the sections stream to disk and memory holds only
    the one at hand.
    """

    def __init__(self, descriptor: int, header_bytes: int = 8192) -> None:
        self._descriptor = descriptor
        self._base = _aligned(_PREAMBLE.size + header_bytes)
        self._reserved = self._base - _PREAMBLE.size
        self._end = 0
        self._sections: dict[str, tuple[int, int, int]] = {}

    def add(self, section: str, chunks: Iterable[bytes | bytearray | array[int]]) -> None:
        """Append a section."""
        start = self._end
        length = checksum = 0
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            checksum = crc32(view, checksum)
            while view:
                written = os.pwrite(self._descriptor, view, self._base + start + length)
                length += written
                view = view[written:]
        self._sections[section] = (start, length, checksum)
        self._end = _aligned(start + length)

    def finish(self, fields: Mapping[str, object]) -> None:
        """Write the header with these fields and make the file durable."""
        header = Header(**fields, sections=self._sections)  # type: ignore[arg-type]  # checked by the dataclass's users
        text = json.dumps(asdict(header)).encode()
        if len(text) > self._reserved:
            raise ValueError(f"a layout header of {len(text)} bytes has no room")
        text = text.ljust(self._reserved)
        preamble = _PREAMBLE.pack(_MAGIC, FORMAT_VERSION, len(text), hashlib.sha256(text).digest())
        os.pwrite(self._descriptor, preamble + text, 0)
        os.ftruncate(self._descriptor, self._base + self._end)
        os.fsync(self._descriptor)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
