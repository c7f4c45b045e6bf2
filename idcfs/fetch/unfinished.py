"""Files of the user's that are still being written: hidden, beside what they will become.

Each is locked (flock) by who writes it and always has the same name, so that whoever wants
the same file next takes over what a killed program left. Where another program holds the
lock, or the file system has none, a random name does instead, and nothing is taken over.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.errors import AccessDeniedError, IntegrityError, StoreUnavailableError
from idcfs.fetch.run_record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idcfs.model import ObjectRef

    StrPath = str | os.PathLike[str]
    """For each of many files; a `Path` takes as long to make as a file takes to open."""

SUFFIX = ".idcfs-part"
"""Of every unfinished file."""

_RECORD_SUFFIX = ".idcfs-runs"
"""Of what tells which runs of a large one have come."""

_HIDDEN_NAME_BYTES = 200
"""Of a name's 255, what its hidden form keeps."""

_CLAIMS = 10
"""How often a name is tried that others, who are about to end, keep renaming or removing."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def unfinished_file(ref: ObjectRef, destination: StrPath) -> Iterator[int]:
    """Give the descriptor of an empty hidden file that takes its name when all has gone well.

    Otherwise it is removed. Raises OSError, and IntegrityError if it was taken away.
    """
    path = _hidden(destination, SUFFIX)
    claimed = _claim(path, lambda fd: False)
    if claimed is None:
        path = _hidden(destination, f".{os.urandom(6).hex()}{SUFFIX}")
        fd = os.open(path, _FLAGS | os.O_EXCL, 0o666)  # the mode is as the user's umask has it
        claimed = fd, os.fstat(fd)
    fd, found = claimed
    try:
        yield fd
        _finish(fd, found, ref)
        _rename(path, found, destination)
    except BaseException:
        _remove(path, found)
        raise
    finally:
        os.close(fd)


@contextmanager
def partial_file(ref: ObjectRef, destination: StrPath) -> Iterator[tuple[int, RunRecord | None]]:
    """Give a file as `unfinished_file` does, and the record of the runs that are in it.

    What was left by a program that was killed, by a signal or by a store out of reach is
    taken over, unless the object changed, and it is left again for these reasons; for any
    other it is removed. The record is None if none can be kept. Raises OSError.
    """
    path = _hidden(destination, SUFFIX)
    record = RunRecord(Path(_hidden(destination, _RECORD_SUFFIX)), ref)
    # Without an ETag nobody would notice that the object changed.
    claimed = _claim(path, lambda fd: bool(ref.instance.etag) and record.load())
    if claimed is None:
        with unfinished_file(ref, destination) as fd:
            yield fd, None
        return
    fd, found = claimed
    try:
        record.open()
        yield fd, record
        os.ftruncate(fd, ref.instance.size_bytes)  # as it is, unless somebody added to it
        _finish(fd, found, ref)
        record.remove()
        _rename(path, found, destination)
    except BaseException as exc:
        if not (_may_go_on(exc) and record.runs):
            record.remove()
            _remove(path, found)
        raise
    finally:
        record.close()
        os.close(fd)


def _may_go_on(exc: BaseException) -> bool:
    """Tell whether what came so far is worth keeping: nothing is wrong with it."""
    return isinstance(exc, (StoreUnavailableError, AccessDeniedError)) or not isinstance(
        exc, Exception
    )


def _claim(path: str, is_wanted: Callable[[int], bool]) -> tuple[int, os.stat_result] | None:
    """Open a hidden file for oneself alone; it is empty, or `is_wanted` as it was left.

    Returns the descriptor and the file's status; None if another program has it, or it cannot be
    had.
    """
    for _ in range(_CLAIMS):
        try:
            fd = os.open(path, _FLAGS, 0o666)
        except OSError:
            return None
        try:
            if not _lock(path, fd):
                return None
            found = os.fstat(fd)
            if _leads_to(path, found):
                is_own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
                if is_own and (not found.st_size or is_wanted(fd)):
                    claimed, fd = fd, -1
                    return claimed, found
                os.unlink(path)
                Path(path).with_suffix(_RECORD_SUFFIX).unlink(missing_ok=True)
        except OSError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)
    return None


def _lock(path: str, fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here: it was made just now, or by a host that has them
        if not os.fstat(fd).st_size:
            os.unlink(path)
        return False
    return True


def _leads_to(path: str, found: os.stat_result) -> bool:
    """Tell whether a file that was opened by this name still has it, now that it is locked."""
    try:
        return os.path.samestat(os.lstat(path), found)
    except FileNotFoundError:
        return False


def _finish(fd: int, found: os.stat_result, ref: ObjectRef) -> None:
    os.utime(fd, ns=(ref.instance.mtime_ns, ref.instance.mtime_ns))
    if not os.major(found.st_dev):
        # On no block device, so perhaps on a network: such file systems tell only when a file is
        # closed of what they could not write. The lock stays.
        os.close(os.dup(fd))


def _rename(path: str, found: os.stat_result, destination: StrPath) -> None:
    """Give a hidden file its name. Raises IntegrityError if it is not there any more.

    Some network file systems keep the locks of each host to itself: then two hosts that bring
    one file may take it away from each other, but never call the other's by its name.
    """
    if not _leads_to(path, found):
        raise IntegrityError(f"{destination}: another program took away what was being written")
    os.rename(path, destination)


def _remove(path: str, found: os.stat_result) -> None:
    with suppress(OSError):  # the first error says more, and Cancelled must come out
        if _leads_to(path, found):
            os.unlink(path)


def _hidden(destination: StrPath, suffix: str) -> str:
    # In the same directory, so that the rename stays within one file system.
    directory, name = os.path.split(destination)
    shortened = name.encode()[:_HIDDEN_NAME_BYTES].decode(errors="ignore")
    return os.path.join(directory, f".{shortened}{suffix}")
