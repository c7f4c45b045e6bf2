"""One mount: from `mount(2)` to the last request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyfuse3

from idcfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from idcfs.fuse.adapter import Adapter

_MAX_TASKS = 512
"""Requests served at once. Each reader that waits for the network holds one task; pyfuse3's
default of 99 would let a hundred of them block every `ls`."""


class Session:
    """Mounts at construction, serves while `run` runs, unmounts at `close`.

    pyfuse3 keeps its session in globals, so there is one of these in a process.
    Raises MountError when the kernel or fusermount3 refuses.
    """

    def __init__(self, adapter: Adapter, mountpoint: Path, options: Collection[str]) -> None:
        wanted = {"default_permissions", "ro", "subtype=idcfs", *options}
        if not any(option.startswith("fsname=") for option in options):
            wanted.add("fsname=idcfs")
        try:
            pyfuse3.init(adapter, str(mountpoint), wanted)
        except (RuntimeError, OSError) as exc:
            raise MountError(
                f"could not mount at {mountpoint} (the reason stands above, if the system "
                "gave one); `idcfs doctor` looks for what is missing"
            ) from exc

    async def run(self) -> None:
        """Serve requests until the file system is unmounted or `stop` is called."""
        await pyfuse3.main(max_tasks=_MAX_TASKS)

    def stop(self) -> None:
        """Make `run` return once the requests under way are answered."""
        pyfuse3.terminate()

    def close(self) -> None:
        """Unmount, if that has not happened yet."""
        pyfuse3.close(unmount=True)
