"""Every error that crosses a room's door.

A message is one line in the user's words: what failed, on what, and what to do
next. `exit_status` is what the command line ends with; which errno a reader of
the mount sees is decided in `fuse`, in one table.
"""

from __future__ import annotations

import errno

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where there is no room, or no more of it for this user."""

WAY_ROUND = (
    "if this machine is not let through to the store: `idcfs manifest` with the same selection and"
    " --script run.sh writes a script that fetches it on one that is, with idcfs or with s5cmd, and"
    " `idcfs prefetch --from-dir DIRECTORY` takes in here what came"
)
"""What to do next where the store, or something on the way, refuses."""


class IdcfsError(Exception):
    """Base of all errors that idcfs raises on purpose."""

    exit_status = 1


class UsageError(IdcfsError):
    """What was asked for makes no sense: an unknown column, collection, option or value."""

    exit_status = 2


class MissingPackageError(UsageError):
    """What was asked for takes a package that is not installed."""


class IndexFileError(IdcfsError):
    """The index is missing, is not an IDC index, or cannot be read."""


class StoreError(IdcfsError):
    """The object store did not give what was asked of it."""


class ObjectNotFoundError(StoreError):
    """The store answered that there is no such object or bucket (404)."""


class AccessDeniedError(StoreError):
    """The store, or something on the way to it, refused (401, 403)."""


class StoreUnavailableError(StoreError):
    """The store could not be reached, timed out, or is overloaded; later may be better."""

    asks_for_less: bool = False
    """Whether the store said that too much is asked of it (429, 503 Slow Down)."""
    retry_after_s: float | None = None
    """How long it asked to be left alone, if it said."""
    no_connection: bool = False
    """Whether not even a connection could be made, so that other requests will fare alike."""
    is_told: bool = False
    """Whether the log has been told of the outage that it belongs to."""
    fault: str = ""
    """The message without what was being done."""


class IntegrityError(StoreError):
    """What arrived is not what the listing promised: wrong length, checksum or ETag."""


class CacheError(IdcfsError):
    """The cache directory could not be read or written; the network still can."""


class MountError(IdcfsError):
    """The file system could not be mounted or unmounted."""


class NoSuchEntryError(IdcfsError):
    """No file or directory of that name or number."""


class NoSuchAttributeError(IdcfsError):
    """No extended attribute of that name on this file or directory."""


class NotADirectoryInTreeError(IdcfsError):
    """A directory was needed and a file was given."""


class IsADirectoryInTreeError(IdcfsError):
    """A file was needed and a directory was given."""


class DirectoryTooWideError(IdcfsError):
    """A directory would hold more files than can be listed."""
