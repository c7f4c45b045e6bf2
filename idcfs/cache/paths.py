"""Where one object's files belong, and the mark that tells them from another's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from idcfs.cache.inventory import OBJECTS, PARTIAL, SUMS

if TYPE_CHECKING:
    from pathlib import Path

_IDENTITY_BYTES = 8


class Paths(NamedTuple):
    """The places of one object's files."""

    whole: Path
    partial: Path
    sums: Path

    @property
    def identity(self) -> bytes:
        """The object's mark, kept with its checksums.

        A file that somebody moved under another object's name has the wrong one.
        """
        return identity_of(self.whole.parent.name, self.whole.name)


def object_paths(root: Path, series: str, name: str) -> Paths:
    """Return the places of an object's files, whose names must be plain."""
    place = (series[:2], series, name)
    return Paths(*(root.joinpath(tree, *place) for tree in (OBJECTS, PARTIAL, SUMS)))


def identity_of(series: str, name: str) -> bytes:
    """Return the mark of an object by its names."""
    key = f"{series}/{name}".encode(errors="surrogateescape")
    return hashlib.blake2b(key, digest_size=_IDENTITY_BYTES).digest()
