"""Copies objects that the cache holds whole to files of the user's. Runs in worker threads.

Never by hard links: whoever wrote to such a file would write to the cache.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from idcfs.cache import ContentCheck
from idcfs.errors import CacheError, IntegrityError
from idcfs.fetch.download import Brought
from idcfs.fetch.unfinished import unfinished_file
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.cache import Cache, CachedObject
    from idcfs.model import Bytes, ObjectRef

_READ_BYTES = 1 << 20


def copy_cached(
    cache: Cache, ref: ObjectRef, destination: Path, *, verify_content: bool
) -> Brought | None:
    """Have an object at `destination` if the cache holds it whole; else return None.

    The two files share their blocks where the file system can do that. What the cache has is
    compared with its checksums, and discarded if it is wrong. Raises OSError.
    """
    if not cache.may_have(ref):
        return None
    try:
        cached = cache.open(ref)
    except CacheError:
        return None
    try:
        if cached.missing(ref.whole):
            return None
        with unfinished_file(ref, destination) as fd:
            is_shared = cached.share(fd)
            check = read_through(
                cached, ref, lambda chunk: None if is_shared else _write(fd, chunk), verify_content
            )
        return Brought(False, check.checksum, copied=True)
    except (CacheError, IntegrityError):
        cached.discard(ref.whole)
        return None
    finally:
        cached.close()


def read_through(
    cached: CachedObject,
    ref: ObjectRef,
    sink: Callable[[Bytes], None] = lambda chunk: None,
    verify_content: bool = True,
) -> ContentCheck:
    """Read all of a cached object, and return what it was held against.

    Raises CacheError or IntegrityError if it is not the object.
    """
    check = ContentCheck(ref, ref.whole, verify_content=verify_content)
    for offset in range(0, ref.instance.size_bytes, _READ_BYTES):
        trio.from_thread.check_cancelled()
        length = min(_READ_BYTES, ref.instance.size_bytes - offset)
        chunk = cached.read(Extent(offset, length))
        check.update(memoryview(chunk))
        sink(chunk)
    check.finish()
    return check


def _write(fd: int, chunk: Bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(fd, left) :]
