"""Takes back what the kernel was told to remember."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3
import trio

from idcfs.fuse import forgetting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from idcfs.vfs.inodes import Inode

_DEVICE = "/dev/fuse"

_CLONE = 0x8004E500
"""FUSE_DEV_IOC_CLONE of <linux/fuse.h>, on x86 and Arm; since Linux 4.2."""

_PATIENCE_S = 10.0
"""How long one who is told to stop may wait for an answer of ours: a mount that ends gives its
fetches two seconds."""


class KernelCache:
    """What the kernel remembers of the one mount of this process.

    Only while its session runs. What the kernel does not know is no error; OSError is
    raised if the mount is gone.
    """

    async def forget_names(self, names: Iterable[tuple[Inode, Iterable[str]]]) -> None:
        """Have names in directories looked up anew, and all that is below them.

        Returns when that is done, which takes as long as anybody waits for an answer of ours in
        one of the directories; a process of its own does so, for the reason told in
        `fuse.forgetting`. If cancelled it has that stop first. Raises OSError also where no such
        process can be had.
        """
        with tempfile.TemporaryFile() as told:
            await trio.to_thread.run_sync(_write, names, told)
            process = await _start(told)
        assert process.stdout is not None
        async with process.stdout:  # which tells that process that we are there
            try:
                status = await process.wait()
            finally:
                with trio.move_on_after(_PATIENCE_S, shield=True):
                    process.terminate()
                    await process.wait()
        if status < 0:
            raise OSError(errno.EIO, f"who tells it so was ended by signal {-status}")
        if status > 0:
            raise OSError(status, os.strerror(status))

    def forget_attributes(self, inode: Inode) -> None:
        """Have the attributes of an inode asked for anew. Never blocks; in any thread."""
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)


def _write(names: Iterable[tuple[Inode, Iterable[str]]], file: BinaryIO) -> None:
    for directory, found in names:
        file.writelines(forgetting.record(directory, name.encode()) for name in found)
    file.seek(0)


async def _start(names: BinaryIO) -> trio.Process:
    device = _connect_anew()
    try:
        return await trio.lowlevel.open_process(
            [sys.executable, "-I", "-S", forgetting.__file__, str(device)],
            stdin=names,
            stdout=subprocess.PIPE,
            pass_fds=[device],
            start_new_session=True,  # Ctrl-C is the daemon's business
        )
    finally:
        os.close(device)


def _connect_anew() -> int:
    """Return the descriptor of another connection to the mount of this process."""
    session = _session_descriptor()  # as long as it is the only one
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _CLONE, struct.pack("I", session))
    except OSError:
        os.close(device)
        raise
    return device


def _session_descriptor() -> int:
    """Return that of the session, which pyfuse3 keeps to itself."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory itself
            if os.readlink(link) == _DEVICE:  # noqa: PTH115  # a path is not wanted
                return int(link.name)
    raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
