"""Becoming a daemon: the command returns when the mount answers, or says why it cannot."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from idcfs.errors import IdcfsError, MountError

if TYPE_CHECKING:
    from collections.abc import Callable

    Ready = Callable[[str], None]


logger = logging.getLogger(__name__)


class _DaemonError(MountError):
    """An error of the daemon's, told again by the command that started it."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def run_detached(job: Callable[[Ready], None]) -> str:
    """Run `job` in a child process and return what it passes to its `ready` function.

    When it is ready, the child leaves the terminal's session, its standard streams and
    the working directory; until then it may print, and Ctrl-C ends it too. Must be
    called before any thread is started.
    Raises the child's IdcfsError, or MountError if it dies before it is ready.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_run_child(job, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    if not told:
        _, status = os.waitpid(child, 0)
        raise MountError(f"the mount process ended before it was ready (wait status {status})")
    outcome = json.loads(told)
    if "error" in outcome:
        os.waitpid(child, 0)
        raise _DaemonError(outcome["error"], outcome["exit_status"])
    return str(outcome["ready"])


def _run_child(job: Callable[[Ready], None], writing: int) -> int:
    """Run the job and return the exit status of the child."""
    told = False

    def tell(**outcome: object) -> None:
        nonlocal told
        told = True
        os.write(writing, json.dumps(outcome).encode())
        os.close(writing)

    def ready(message: str) -> None:
        # The directory it was started from must not be held busy for the mount's life.
        os.chdir("/")
        os.setsid()
        tell(ready=message)
        _leave_streams()

    try:
        job(ready)
    except KeyboardInterrupt:  # the command, which got it too, says so
        return 130
    except IdcfsError as exc:
        if not told:
            tell(error=str(exc), exit_status=exc.exit_status)
        return exc.exit_status
    except Exception as exc:
        logger.exception("the mount process failed; this is a bug in idcfs")
        if not told:
            tell(error=f"unexpected {type(exc).__name__}: {exc}", exit_status=1)
        return 1
    return 0


def _leave_streams() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
