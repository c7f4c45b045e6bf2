"""One mount: from `mount(2)` to the last request."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyfuse3

from idcfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from idcfs.fuse.adapter import Adapter

logger = logging.getLogger(__name__)

_REASON_BYTES = 2000

_MAX_TASKS = 512
"""Requests served at once. Each reader that waits for the network holds one task; pyfuse3's
default of 99 would let a hundred of them block every `ls`."""


_UNKNOWN_OPTION = re.compile(r"fuse: unknown option\(s\): `-o ?(.*?)'")


@contextmanager
def _told() -> Iterator[BinaryIO]:
    """Keep what libfuse and fusermount3 write to standard error: nobody else knows the reason."""
    sys.stderr.flush()
    with os.fdopen(os.memfd_create("told"), "w+b") as told, os.fdopen(os.dup(2), "wb") as before:
        os.dup2(told.fileno(), 2)
        try:
            yield told
        finally:
            os.dup2(before.fileno(), 2)


def _read(told: BinaryIO) -> str:
    text = os.pread(told.fileno(), _REASON_BYTES, 0).decode(errors="replace")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


class Session:
    """Mounts at construction, serves while `run` runs, unmounts at `close`.

    pyfuse3 keeps its session in globals, so there is one of these in a process.
    Raises MountError when the kernel or fusermount3 refuses, UsageError for options that
    libfuse does not know. Blocks.
    """

    def __init__(self, adapter: Adapter, mountpoint: Path, options: Collection[str]) -> None:
        wanted = {"default_permissions", "ro", "subtype=idcfs", *options}
        if not any(option.startswith("fsname=") for option in options):
            wanted.add("fsname=idcfs")
        try:
            with _told() as told:
                try:
                    pyfuse3.init(adapter, str(mountpoint), wanted)
                finally:
                    reason = _read(told)
        except (RuntimeError, OSError) as exc:
            if (option := _UNKNOWN_OPTION.search(reason)) is not None:
                raise UsageError(f"-o {option[1]}: neither idcfs nor libfuse knows that") from exc
            raise MountError(
                f"could not mount at {mountpoint}: {reason or exc}; `idcfs doctor` looks for what "
                "is missing"
            ) from exc
        if reason:
            logger.warning("%s", reason)

    async def run(self) -> None:
        """Serve requests until the file system is unmounted or `stop` is called."""
        await pyfuse3.main(max_tasks=_MAX_TASKS)

    def stop(self) -> None:
        """Make `run` return once the requests under way are answered."""
        pyfuse3.terminate()

    def close(self) -> None:
        """Unmount, if that has not happened yet."""
        pyfuse3.close(unmount=True)
