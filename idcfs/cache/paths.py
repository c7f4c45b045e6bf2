"""Where one object's files belong, and the mark that tells them from another's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.cache.files import locked
from idcfs.cache.inventory import OBJECTS, PARTIAL, SUMS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from idcfs.cache.shared_scratch import SharedScratch

_IDENTITY_BYTES = 8


@dataclass(frozen=True, slots=True)
class Paths:
    """The places of one object's files. The names must be plain."""

    root: Path
    series: str
    name: str
    shared: SharedScratch | None = None
    """Where this process keeps its own parts, in a directory that several hosts share."""

    @property
    def whole(self) -> Path:
        """The object itself, complete."""
        return self._in(OBJECTS)

    @property
    def partial(self) -> Path:
        """What has come of it so far."""
        if self.shared is not None:
            return self.shared.parts / self.series / self.name
        return self._in(PARTIAL)

    @property
    def sums(self) -> Path:
        """Its checksums, where they are no attribute of the file."""
        return self._in(SUMS)

    def locked(self, fd: int) -> AbstractContextManager[None]:
        """Keep all others who may write to it out of the partial file. Raises OSError."""
        return locked(fd) if self.shared is None else self.shared.locked(fd)

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
