"""Whether a directory is a cache of ours, and in a format that we know.

Nothing is ever deleted here: a directory that is not ours, or that a newer idcfs wrote, is
refused. The format is described in docs/cache-format.md.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
_WORD = "idcfs-cache"
_FILE = "format"

_TAG_FILE = "CACHEDIR.TAG"
# The signature that https://bford.info/cachedir/ asks for.
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of idcfs.\n"

_OWN_NAMES = frozenset({"objects", "listings", "scratch", "layouts", _TAG_FILE, _FILE})
"""What a directory may hold that is taken for a cache although its format is not written
down: one that was killed in its first instant, or made before formats had numbers."""

_HALF = ".idcfs-"
"""How the names of files begin that are just being made in the cache directory itself."""

_NEUTRAL_NAMES = frozenset({"lost+found", ".snapshot", ".zfs"})
"""What a file system itself puts into its topmost directory."""

_UNWRITABLE = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EIO}


def prepare_root(root: Path) -> OSError | None:
    """Make sure that `root` is a cache directory of ours, and mark a new one as such.

    Return the error if it cannot be written but may be read. Raises CacheError if it
    must not be used, OSError if it cannot be.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        if exc.errno not in _UNWRITABLE or not root.is_dir():
            raise
    _check_ownership(root)
    if _check_format(root):
        return None if os.access(root, os.W_OK) else _read_only(root)
    try:
        _write_durably(root / _TAG_FILE, _TAG)
        _write_durably(root / _FILE, f"{_WORD} {FORMAT}\n".encode())
    except OSError as exc:
        if exc.errno not in _UNWRITABLE or not any(root.iterdir()):
            raise
        return exc
    return None


def check_directory(root: Path) -> None:
    """Raise CacheError for a directory that must not be used, and OSError. Writes nothing."""
    _check_ownership(root)
    _check_format(root)


def _check_ownership(root: Path) -> None:
    """Refuse a directory in which others could replace what is served.

    That holds for root too: others could make it serve what they like, and what it writes
    into a user's cache that user could neither use nor remove.
    """
    status = root.stat()
    if status.st_uid != os.geteuid():
        raise CacheError(
            f"the cache directory {root} belongs to another user (uid {status.st_uid}); "
            "choose one of your own with --cache-dir"
        )
    if status.st_mode & stat.S_IWOTH:
        raise CacheError(
            f"anyone may write to the cache directory {root}; "
            f"chmod o-w {root}, or choose another with --cache-dir"
        )


def _check_format(root: Path) -> bool:
    """Tell whether `root` says that it is a cache; refuse what is not, or not yet known."""
    try:
        content = (root / _FILE).read_bytes()[:100]
    except FileNotFoundError:
        content = b""
    if content:
        word, _, number = content.decode(errors="replace").strip().partition(" ")
        if word != _WORD or not number.isdecimal():
            raise CacheError(f"{root} is not a cache of idcfs: its file {_FILE!r} is another's")
        if int(number) > FORMAT:
            raise CacheError(
                f"the cache directory {root} was written by a newer idcfs (format {number}, "
                f"known is {FORMAT}); upgrade, or choose another with --cache-dir"
            )
        return True
    with suppress(FileNotFoundError):
        if (root / _TAG_FILE).read_bytes() == _TAG:
            return False  # ours, and only its format is lost
    names = {path.name for path in root.iterdir() if not path.name.startswith(_HALF)}
    names -= _NEUTRAL_NAMES
    if foreign := names - _OWN_NAMES:
        raise CacheError(
            f"{root} holds files that are not of idcfs, such as {min(foreign)!r}; "
            "choose an empty or a new directory with --cache-dir"
        )
    return False


def _write_durably(path: Path, content: bytes) -> None:
    """Write one of the two files that the whole cache depends on: synced, once in its life."""
    unfinished = path.with_name(f"{_HALF}{secrets.token_hex(8)}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        # So that the name too is there after a power cut, before anything else in here is.
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _read_only(root: Path) -> OSError:
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        return OSError(errno.EROFS, os.strerror(errno.EROFS), str(root))
    return OSError(errno.EACCES, os.strerror(errno.EACCES), str(root))
