"""The cache on disk: listings and objects, kept across processes and restarts.

It knows files and extents, nothing of networks, trio or FUSE. Calls that may
touch the disk block and belong in a worker thread; those named `_nowait`, and
`CachedObject.missing`, do not. Every failure of the disk is a
`idcfs.errors.CacheError`: the caller can always go on without the cache.
"""

from idcfs.cache.disk import DiskCache
from idcfs.cache.protocol import Cache, CachedObject, ExtentWriter
from idcfs.cache.units import UncachedObject, is_small
from idcfs.cache.verify import ContentCheck

__all__ = [
    "Cache",
    "CachedObject",
    "ContentCheck",
    "DiskCache",
    "ExtentWriter",
    "UncachedObject",
    "is_small",
]
