"""Has the kernel forget names, in a process of its own that can outlive the daemon.

The kernel locks a directory before it forgets a name in it, and so waits for whoever looks
something up there, that is for answers of the daemon. No signal ends that wait. Were the daemon
killed while a thread of its own waited, that thread would keep the connection open whose end
alone could free it: the daemon would never be gone, and whoever uses the mount wait for ever.

This process has a connection of its own to the same mount (FUSE_DEV_IOC_CLONE). If the daemon is
killed, the requests that it had taken end with it. Those that nobody has taken yet are refused
here, as long as this process has still to wait.

Run as a script in Python's isolated mode, so it imports nothing but the standard library.
Argument: the descriptor of that connection. Standard input is a file of names, see `record`.
Standard output is a pipe that only the daemon reads, so that its end can be told. SIGTERM ends
this behind the next name. The exit status is 0, or the errno of what failed: EINTR where names
were left by then.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_RECORD = struct.Struct("=QH")
"""The directory's inode number and the length of the name, which follows."""

_NOTICE = struct.Struct("=IiQQII")
"""`fuse_out_header` and `fuse_notify_inval_entry_out` of <linux/fuse.h>; the name follows."""
_INVALIDATE_ENTRY = 3
"""FUSE_NOTIFY_INVAL_ENTRY, which stands where an answer has its error."""

_REQUEST = struct.Struct("=IIQ")
"""How `fuse_in_header` begins: length, operation, and the number to answer by."""
_ANSWER = struct.Struct("=IiQ")
"""`fuse_out_header`."""
_UNANSWERED = frozenset({2, 36, 42})
"""FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET."""

_REQUEST_BYTES = 32 << 20
"""The kernel refuses a buffer that could not take its largest request: 1 MiB, or 16 MiB with
pages of 64 KiB, and a header. What is not written to takes no memory."""


def record(inode: int, name: bytes) -> bytes:
    """Return a directory's inode and a name in it as this process reads it."""
    return _RECORD.pack(inode, len(name)) + name


def _forget_all(names: BinaryIO, device: int, stopped: threading.Event) -> int:
    """Have the kernel forget names up to the end. Return 0 or an errno."""
    while head := names.read(_RECORD.size):
        if stopped.is_set():
            return errno.EINTR
        inode, length = _RECORD.unpack(head)
        try:
            _forget(device, inode, names.read(length))
        except FileNotFoundError:  # the kernel does not know it
            pass
        except OSError as exc:
            return exc.errno or errno.EIO
    return 0


def _forget(device: int, inode: int, name: bytes) -> None:
    length = _NOTICE.size + len(name) + 1
    notice = _NOTICE.pack(length, _INVALIDATE_ENTRY, 0, inode, len(name), 0)
    os.write(device, notice + name + b"\0")


def _refuse_all(device: int) -> None:
    """Answer each request as a mount does whose daemon is gone, until the mount is."""
    buffer = bytearray(_REQUEST_BYTES)
    while True:
        try:
            os.readv(device, [buffer])
            _, operation, number = _REQUEST.unpack_from(buffer)
            if operation not in _UNANSWERED:
                os.write(device, _ANSWER.pack(_ANSWER.size, -errno.ENOTCONN, number))
        except FileNotFoundError:  # who asked has given it up meanwhile
            pass
        except OSError:
            return


def main() -> None:
    """Have the kernel forget what standard input says. Does not return."""
    device, stopped = int(sys.argv[1]), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())

    def forget() -> None:
        status = errno.EIO
        try:
            status = _forget_all(sys.stdin.buffer, device, stopped)
        finally:
            os._exit(status)  # whatever the main thread waits for

    threading.Thread(target=forget).start()
    ending = select.poll()
    ending.register(sys.stdout.fileno(), 0)  # of a pipe that nobody reads: POLLERR
    ending.poll()
    _refuse_all(device)


if __name__ == "__main__":
    main()
