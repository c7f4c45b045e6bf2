"""Asks a mount, from outside, whether it answers: as any user's program would.

No process of ours asks by itself. A question that a daemon has taken and does not answer keeps
whoever asked from ending, even by SIGKILL: a command would never be over. And least of all does a
daemon ask itself. Where it is killed while the kernel waits for its answer to a question of its
own, its thread cannot die before the answer comes, the connection not end before the thread has
died, and everybody who uses the mount waits for ever with it. A process made for the question may
be left to wait: it gets an error when the daemon is gone.
"""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_REFUSED = 1
"""The exit status by which `stat` says that it got an error; others say that it was prevented."""

_REASON_BYTES = 500

_DEATH_S = 1.0
"""Who is killed is gone within milliseconds, unless the daemon has taken the question."""

_OWN_WORDS = """
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as exc:
    sys.exit(exc.strerror)
"""
"""What Python runs where there is no `stat`, and ends as that does."""

ENVIRONMENT = {"LC_ALL": "C"}
"""For `stat`, whose words are read."""


class Answer(enum.Enum):
    """What came of a question."""

    GIVEN = "the mount answers"
    REFUSED = "it answers with an error, or its connection has ended"
    MISSING = "nothing came in time"
    UNKNOWN = "it could not be asked"


class Told(NamedTuple):
    """An answer, and in a few words why it is none."""

    answer: Answer
    reason: str = ""


def ask(mountpoint: Path, patience_s: float) -> Told:
    """Ask for `statfs`, which the kernel never answers by itself. In any thread, which waits.

    Who gets no answer is left behind. A daemon asks by a `mount.probe.Probe`.
    """
    try:
        with reason_file() as reason:
            process = subprocess.Popen(
                _any_command(mountpoint),
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=reason,
            )
            try:
                status = process.wait(patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_DEATH_S)
                return missing(patience_s)
            return judge(status, reason)
    except OSError as exc:  # no program, process or memory to be had
        return Told(Answer.UNKNOWN, str(exc))


def find_program() -> str | None:
    """Return coreutils' or busybox's `stat`.

    That takes a millisecond or two; Python would take as long as many requests.
    """
    return shutil.which("stat", path=os.defpath) or shutil.which("stat")


def _any_command(mountpoint: Path) -> list[str]:
    """Return what a command runs: without `stat` it would go on to ask by itself, and hang."""
    if (program := find_program()) is not None:
        return command(program, mountpoint)
    return [sys.executable, "-I", "-S", "-c", _OWN_WORDS, os.fspath(mountpoint)]


def command(program: str | None, mountpoint: Path) -> list[str]:
    """Return what to run. Raises FileNotFoundError without a program."""
    if program is None:
        raise FileNotFoundError("there is no program `stat`")
    return [program, "-f", "--", os.fspath(mountpoint)]


def reason_file() -> BinaryIO:
    """Return where `stat` says why not. No pipe: nobody has to read it, whoever is left behind."""
    return os.fdopen(os.memfd_create("reason"), "w+b")


def missing(patience_s: float) -> Told:
    """Return what is told when nothing came in time."""
    return Told(Answer.MISSING, f"no answer within {patience_s:.0f} s")


def judge(status: int, reason: BinaryIO) -> Told:
    """Return what `stat` found, by its exit status and what it has said."""
    if status == 0:
        return Told(Answer.GIVEN)
    message = os.pread(reason.fileno(), _REASON_BYTES, 0).decode(errors="replace").strip()
    if status == _REFUSED:  # "stat: cannot read file system information for 'X': Reason"
        return Told(Answer.REFUSED, message.rpartition(": ")[2])
    return Told(Answer.UNKNOWN, message or f"stat ended with {status}")
