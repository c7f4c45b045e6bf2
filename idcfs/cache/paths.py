"""Where one object's files belong, and the mark that tells them from another's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from idcfs.cache.inventory import OBJECTS, PARTIAL, SUMS

_IDENTITY_BYTES = 8


@dataclass(frozen=True, slots=True)
class Paths:
    """The places of one object's files. The names must be plain."""

    root: Path
    series: str
    name: str

    @property
    def whole(self) -> Path:
        """The object itself, complete."""
        return self._in(OBJECTS)

    @property
    def partial(self) -> Path:
        """What has come of it so far."""
        return self._in(PARTIAL)

    @property
    def sums(self) -> Path:
        """Its checksums, where they are no attribute of the file."""
        return self._in(SUMS)

    @property
    def identity(self) -> bytes:
        """The object's mark, kept with its checksums.

        A file that somebody moved under another object's name has the wrong one.
        """
        return identity_of(self.series, self.name)

    def _in(self, tree: str) -> Path:
        return Path(f"{self.root}/{tree}/{self.series[:2]}/{self.series}/{self.name}")


def identity_of(series: str, name: str) -> bytes:
    """Return the mark of an object by its names."""
    key = f"{series}/{name}".encode(errors="surrogateescape")
    return hashlib.blake2b(key, digest_size=_IDENTITY_BYTES).digest()
