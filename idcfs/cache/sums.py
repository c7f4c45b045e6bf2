"""Where the checksums of a whole object are kept: in an attribute of its file, or beside it.

The attribute moves with the file in one rename and costs no block of its own: ext4 keeps
up to some 12 checksums in the inode (1.5 MB of content). Where a file system has no such
attributes, or the checksums are too many for one, they are a small file in the tree
`sums`. Both carry the object's mark. An object never changes under its name, so checksums
with its mark can never be of other content.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache import units as sizes
from idcfs.cache.blocks import Blocks, Summing, decode_blocks
from idcfs.cache.files import OPENING, Descriptor, read_exactly
from idcfs.cache.inventory import ST_BLOCK_BYTES
from idcfs.cache.scratch import move, remove_quietly
from idcfs.cache.verify import ContentCheck
from idcfs.errors import IntegrityError
from idcfs.model import Extent

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.paths import Paths
    from idcfs.cache.scratch import ScratchSpace
    from idcfs.model import ObjectRef

ATTRIBUTE = "user.idcfs"

_ATTRIBUTE_LIMIT_BYTES = 3500
"""ext4 has one block of 4 KiB for all attributes of a file."""

_READ_BYTES = 1 << 20

_SIDECAR_LIMIT_BYTES = 1 << 30
"""What is read at most of a file that claims to hold checksums."""


def keep_sums(file: Descriptor, blocks: Blocks, paths: Paths, scratch: ScratchSpace) -> int:
    """Keep the checksums of a file that is about to get its final name.

    Return the bytes of the disk that they take. Raises OSError.
    """
    content = blocks.encode(paths.identity)
    if len(content) <= _ATTRIBUTE_LIMIT_BYTES:
        # Without attributes, or without room for one: beside it, then.
        with suppress(OSError):
            before_bytes = _occupied_bytes(file.number)
            os.setxattr(file.number, ATTRIBUTE, content)
            # Those that do not fit into the inode take a block of their own.
            return max(_occupied_bytes(file.number) - before_bytes, 0)
    unfinished, fd = scratch.create()
    try:
        with os.fdopen(fd, "wb") as target:
            target.write(content)
            target.flush()
            scratch.flush(target.fileno())
            occupied_bytes = _occupied_bytes(target.fileno())
        move(unfinished, paths.sums)
    except BaseException:
        remove_quietly(unfinished)
        raise
    return occupied_bytes


def sums_bytes(blocks: Blocks, paths: Paths) -> int:
    """Return how long the file is that `keep_sums` makes; 0 if an attribute can do instead.

    A block is enough for that, and for the file that is made where there are no attributes.
    """
    length = len(blocks.encode(paths.identity))
    return length if length > _ATTRIBUTE_LIMIT_BYTES else 0


def find_sums(file: Descriptor, size_bytes: int, paths: Paths) -> Blocks | None:
    """Return what was kept for an open file; None if there is nothing of use."""
    with suppress(OSError):
        found = decode_blocks(size_bytes, paths.identity, os.getxattr(file.number, ATTRIBUTE))
        if found is not None:
            return found
    try:
        fd = os.open(paths.sums, os.O_RDONLY | OPENING)
    except (OSError, ValueError):
        return None
    with os.fdopen(fd, "rb") as source, suppress(OSError):
        return decode_blocks(size_bytes, paths.identity, source.read(_SIDECAR_LIMIT_BYTES))
    return None


def remake_sums(file: Descriptor, ref: ObjectRef, name: Path) -> Blocks | None:
    """Make the checksums of a file that has none, if its MD5 proves that it is the object.

    So a cache that was copied without attributes is still of use. Raises CacheError.
    """
    if ref.instance.md5 is None:
        return None
    check, summing = ContentCheck(ref, ref.whole), Summing(sizes.BLOCK_BYTES)
    for offset in range(0, ref.instance.size_bytes, _READ_BYTES):
        length = min(_READ_BYTES, ref.instance.size_bytes - offset)
        chunk = memoryview(read_exactly(file, Extent(offset, length), name))
        check.update(chunk)
        summing.update(chunk)
    try:
        check.finish()
    except IntegrityError:
        return None
    blocks = Blocks(ref.instance.size_bytes, sizes.BLOCK_BYTES)
    for number, checksum in enumerate(summing.finish()):
        blocks.note_stored(number, checksum, verified=True)
    return blocks


def _occupied_bytes(fd: int) -> int:
    return os.fstat(fd).st_blocks * ST_BLOCK_BYTES
