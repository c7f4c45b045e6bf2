"""Fetches whole objects into files of the user's. Runs in worker threads."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from idcfs.cache import ContentCheck

if TYPE_CHECKING:
    from idcfs.model import ObjectRef
    from idcfs.store import ObjectStore

_HIDDEN_NAME_BYTES = 200
"""Of a name's 255, what its hidden form keeps."""


def download_object(store: ObjectStore, ref: ObjectRef, destination: Path) -> None:
    """Write the object beside `destination` under a hidden name, check it, and rename it.

    The modification time becomes the object's. Raises StoreError, IntegrityError or
    OSError; then nothing is left behind.
    """
    check = ContentCheck(ref, ref.whole)
    # In the same directory, so that the rename stays within one file system.
    fd, name = tempfile.mkstemp(prefix=_hidden(destination.name), dir=destination.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:

            def sink(chunk: memoryview) -> None:
                trio.from_thread.check_cancelled()
                check.update(chunk)
                while chunk:
                    chunk = chunk[file.write(chunk) :]

            store.get_extent(ref.bucket, ref.key, ref.whole, sink, etag=ref.instance.etag)
            check.finish()
            # mkstemp's 0600 would keep colleagues out of a shared directory.
            os.fchmod(fd, 0o666 & ~_umask())
        os.utime(unfinished, ns=(ref.instance.mtime_ns, ref.instance.mtime_ns))
        unfinished.rename(destination)
    except BaseException:
        with suppress(OSError):  # the first error says more, and Cancelled must come out
            unfinished.unlink()
        raise


def _hidden(name: str) -> str:
    """Return the beginning of a hidden name: short enough to leave room for a random end."""
    return f".{name.encode()[:_HIDDEN_NAME_BYTES].decode(errors='ignore')}."


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it, or from /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
