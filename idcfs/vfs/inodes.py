"""Inode numbers that carry what they name, so that no table of inodes is kept.

A directory's number is its `DirectoryId` plus one (the root is 1, as FUSE wants). A
file's number holds its series' row in the index and a number of the instance within
the series:

    bit 62        set for files
    bits 32-61    row of the series in the index
    bits 0-31     the first eight hexadecimal digits of the instance's name (names are
                  random UUIDs), or the CRC-32 of any other name; for names of one series
                  that have this in common, a hash of the whole name

So the numbers of a series are in the order of its names, and so of its directory (but for
such pairs: one, by chance, among 90,000 files): `cp`, `tar` and `find` may sort by inode
number before they read, and a reader that goes through a directory in order is one whose
next files can be fetched ahead. Numbers are the same at every mount of one index, for every
selection, and a file's also for every template. A walk over millions of entries leaves
nothing in the daemon, even while the kernel remembers all of them.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections import Counter
from typing import TYPE_CHECKING, NewType

from idcfs.vfs.tree import DirectoryId

if TYPE_CHECKING:
    from collections.abc import Iterable

Inode = NewType("Inode", int)

ROOT_INODE = Inode(1)

_FILE_BIT = 1 << 62
_NUMBER_BITS = 32
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_HEX_DIGITS = frozenset("0123456789abcdef")


def inode_of_directory(directory: DirectoryId) -> Inode:
    """Return the inode number of a directory."""
    return Inode(directory + 1)


def inode_of_file(row: int, number: int) -> Inode:
    """Return the inode number of instance `number` of the series at `row` of the index."""
    return Inode(_FILE_BIT | row << _NUMBER_BITS | number)


def is_file_inode(inode: Inode) -> bool:
    """Tell whether the number is a file's."""
    return bool(inode & _FILE_BIT)


def directory_of_inode(inode: Inode) -> DirectoryId:
    """Return the directory that has this number."""
    return DirectoryId(inode - 1)


def file_of_inode(inode: Inode) -> tuple[int, int]:
    """Return the row of the series and the number of the instance."""
    return (inode & ~_FILE_BIT) >> _NUMBER_BITS, inode & _NUMBER_MASK


def number_names(names: Iterable[str]) -> list[int]:
    """Return a number below 2**32 for each name, all different, given in byte order.

    A name that has its first number to itself keeps it, whatever others come or go. Of names
    that share one, none has it: the kernel may hold pages of the one that was listed before the
    others were, and must not show them as another's. Each has a hash instead, the same whatever
    else is there but for names that have that number, too.
    """
    in_order = list(names)
    first = [_first_number(name) for name in in_order]
    sharing = Counter(first)
    taken = set(first)
    numbers = []
    for name, number in zip(in_order, first, strict=True):
        if sharing[number] > 1:
            hashes = (_hash(name, attempt) for attempt in itertools.count())
            number = next(hashed for hashed in hashes if hashed not in taken)
            taken.add(number)
        numbers.append(number)
    return numbers


def _first_number(name: str) -> int:
    is_uuid_like = len(name) > 8 and set(name[:8]) <= _HEX_DIGITS
    return int(name[:8], 16) if is_uuid_like else zlib.crc32(name.encode())


def _hash(name: str, attempt: int) -> int:
    """Return 32 bits that nobody can choose many names to have the same of."""
    digest = hashlib.sha256(f"{name}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
