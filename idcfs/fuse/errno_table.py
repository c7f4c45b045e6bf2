"""Which errno a reader of the mount sees for which of our errors."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from idcfs.errors import (
    AccessDeniedError,
    CacheError,
    DirectoryTooWideError,
    IdcfsError,
    IntegrityError,
    IsADirectoryInTreeError,
    NoSuchEntryError,
    NotADirectoryInTreeError,
    ObjectNotFoundError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_ERRNO: Mapping[type[IdcfsError], int] = {
    NoSuchEntryError: errno.ENOENT,
    NotADirectoryInTreeError: errno.ENOTDIR,
    IsADirectoryInTreeError: errno.EISDIR,
    DirectoryTooWideError: errno.EFBIG,
    AccessDeniedError: errno.EACCES,
    # The entry exists, its content does not: ENOENT would make a copying tool skip it
    # as if it had been removed meanwhile.
    ObjectNotFoundError: errno.EIO,
    # "Network is unreachable" tells more than "Input/output error", and is not taken
    # for a damaged file.
    StoreUnavailableError: errno.ENETUNREACH,
    IntegrityError: errno.EIO,
    CacheError: errno.EIO,
}


def errno_of(error: IdcfsError) -> int:
    """Return the errno for an error: its class's, else the nearest base class's, else EIO."""
    for kind in type(error).__mro__:
        if kind in _ERRNO:
            return _ERRNO[kind]
    return errno.EIO
