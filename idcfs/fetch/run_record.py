"""Which runs of a large file have come, kept beside it for whoever goes on with it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.crc import crc32
from idcfs.fetch import streams

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.model import Extent, ObjectRef

_READ_BYTES = 1 << 20

_LONGEST_BYTES = 64 << 20
"""Of a record that is believed: two million runs."""


class RunRecord:
    """The runs that are in a partial file, with the CRC-32 of each. For any thread.

    A file of lines: what object it is, as JSON, then offset and CRC of each run. It is never
    synced: after a power cut the CRC tells whether a run is there.
    """

    def __init__(self, path: Path, ref: ObjectRef) -> None:
        one = ref.instance
        self._path = path
        self._title = json.dumps(
            {
                "url": ref.url,
                "etag": one.etag,
                "bytes": one.size_bytes,
                "mtime_ns": one.mtime_ns,
                "run_bytes": streams.RUN_BYTES,
            }
        )
        self._fd = -1
        self.runs: dict[int, int] = {}
        """The CRC of each run, by its offset."""

    def load(self) -> bool:
        """Read what was left; tell whether it is of this object, as it is now."""
        try:
            with self._path.open("rb") as file:
                title, *lines = file.read(_LONGEST_BYTES).decode("ascii").split("\n")
        except (OSError, UnicodeDecodeError):
            return False
        if title != self._title:
            return False
        for line in lines:
            with suppress(ValueError):  # a line that was cut off
                offset, crc = line.split(" ")
                self.runs[int(offset)] = int(crc, 16)
        return True

    def open(self) -> None:
        """Go on with what was loaded, or begin anew. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags if self.runs else flags | os.O_TRUNC, 0o666)
        if not self.runs:
            os.write(self._fd, f"{self._title}\n".encode("ascii"))

    def has(self, run: Extent, fd: int) -> bool:
        """Tell whether a run is in the file `fd`, by reading it. Raises OSError."""
        crc = self.runs.get(run.offset)
        return crc is not None and crc == _crc_of(run, fd)

    def note(self, run: Extent, crc: int) -> None:
        """Take down a run that has come. Raises OSError."""
        self.runs[run.offset] = crc
        os.write(self._fd, b"%d %08x\n" % (run.offset, crc))

    def remove(self) -> None:
        """Remove the record, if it is there."""
        with suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _crc_of(run: Extent, fd: int) -> int:
    crc = 0
    for offset in range(run.offset, run.end, _READ_BYTES):
        crc = crc32(os.pread(fd, min(_READ_BYTES, run.end - offset), offset), crc)
    return crc
