"""Runs one server process and makes sure that it does not outlive its owner.

Started by `server.EmbeddedStore` as a script of its own, with Python's isolated
mode, so it imports nothing but the standard library. Arguments: a JSON list of
files to remove afterwards, then the server's command line. Standard input is a
pipe from the owner:

* end of file (the owner stopped the server, or died in whatever way) ends the
  server with SIGTERM and, after a grace, SIGKILL;
* a `k` on it ends the server with SIGKILL at once.

Standard output gets one line, the server's process id. The exit status is the
server's. Should this process itself be killed, the kernel kills the server with
it (PR_SET_PDEATHSIG, see prctl(2)). The owner cannot ask that of the kernel
itself: the signal is tied to the *thread* that forked, and comes when that
thread ends. This process has one thread, which lives as long as it does.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""

GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL. SeaweedFS takes 2 to 3 s to stop."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _wait_for_order(server: subprocess.Popen[bytes]) -> None:
    """Return when the owner wants the server to end, or when it has ended by itself."""
    server_fd = os.pidfd_open(server.pid)
    ready, _, _ = select.select([sys.stdin.fileno(), server_fd], [], [])
    if server_fd in ready:
        return
    if os.read(sys.stdin.fileno(), 1) == b"k":
        server.kill()
    else:
        server.terminate()


def main() -> int:
    """Run the server named on the command line to its end and return its status."""
    leftovers: list[str] = json.loads(sys.argv[1])
    # A terminal's Ctrl-C is the owner's business; the pipe says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(
        sys.argv[2:],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_parent,  # safe here: this process has one thread
    )
    os.write(sys.stdout.fileno(), f"{server.pid}\n".encode())
    _wait_for_order(server)
    try:
        status = server.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        server.kill()
        status = server.wait()
    for path in leftovers:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - pathlib would double this process's start-up time
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
