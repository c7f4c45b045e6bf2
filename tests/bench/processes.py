"""Runs the contestants' programs: timed, bounded, their CPU counted, and ended by their pid."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import idcfs.demo
from idcfs.config import PATH_VARIABLE
from tests.bench.errors import BenchError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

_GUARDIAN: Final = Path(idcfs.demo.__file__).with_name("guardian.py")
_STOP_S: Final = 15.0
"""The guardian itself sends SIGKILL after 10 s."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that has ended."""

    status: int
    seconds: float
    """Wall time from its start to its end."""
    cpu_s: float
    """User and system time, with that of the children it waited for."""
    peak_bytes: int
    """The largest resident memory of it or one of those children."""
    stdout: str
    stderr: str


def tool(name: str) -> str:
    """Return the path of a program, that of our own environment first.

    Raises UnavailableError if there is none.
    """
    for directory in (Path(sys.executable).parent, *map(Path, os.get_exec_path()), _SBIN):
        if os.access(directory / name, os.X_OK):
            return str(directory / name)
    raise UnavailableError(f"{name} is not installed: `make bench` would do it")


_SBIN: Final = Path("/usr/sbin")
"""Where Debian puts nginx, and where an ordinary user's PATH does not lead."""


def idcfs_command(*arguments: str) -> list[str]:
    """Return the command line of `idcfs` with these arguments."""
    return [tool("idcfs"), *arguments]


def environment(scratch: Path) -> dict[str, str]:
    """Return an environment without the user's configuration, credentials and proxies."""
    kept = ("PATH", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": str(scratch),
        "LC_ALL": "C.UTF-8",
        PATH_VARIABLE: os.devnull,
    }


def run(command: Sequence[str], *, scratch: Path, timeout_s: float, stdin: str = "") -> Ran:
    """Run a program to its end and return what it took. Its streams are files in `scratch`.

    Raises BenchError, after ending it and what it has started, when it takes longer than
    `timeout_s`.
    """
    given, out, err = (scratch / name for name in ("stdin.txt", "stdout.txt", "stderr.txt"))
    given.write_text(stdin)
    with given.open("rb") as given_file, out.open("wb") as out_file, err.open("wb") as err_file:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=given_file,
            stdout=out_file,
            stderr=err_file,
            env=environment(scratch),
            start_new_session=True,
        )
        try:
            _wait(process.pid, timeout_s, command[0])
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        seconds = time.perf_counter() - started
        _, wait_status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(wait_status)
    return Ran(
        status=process.returncode,
        seconds=seconds,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,
        stdout=out.read_text(errors="replace"),
        stderr=err.read_text(errors="replace"),
    )


def run_well(command: Sequence[str], *, scratch: Path, timeout_s: float, stdin: str = "") -> Ran:
    """Run a program and raise BenchError, with what it said, if it fails."""
    done = run(command, scratch=scratch, timeout_s=timeout_s, stdin=stdin)
    if done.status != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise BenchError(f"{Path(command[0]).name} ended with status {done.status}: {said}")
    return done


def _wait(pid: int, timeout_s: float, program: str) -> None:
    """Wait until a child has ended, and leave it to be reaped."""
    pidfd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([pidfd], [], [], timeout_s)
    finally:
        os.close(pidfd)
    if not ready:
        raise BenchError(f"{Path(program).name} did not end within {timeout_s:g} s")


class Guarded:
    """A long-running program that ends with us, whatever becomes of us."""

    def __init__(
        self, command: Sequence[str], *, log_path: Path, env: dict[str, str] | None = None
    ) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARDIAN), json.dumps([]), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        assert self._guardian.stdout is not None
        told = self._guardian.stdout.readline().strip()
        if not told:
            self.stop()
            raise BenchError(f"{command[0]} could not be started: {self.said}")
        self.pid = int(told)

    @property
    def running(self) -> bool:
        """Whether the program is there."""
        return self._guardian.poll() is None

    @property
    def said(self) -> str:
        """The end of its log."""
        return self._log_path.read_text(errors="replace").strip()[-800:]

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL if that does not help."""
        assert self._guardian.stdin is not None
        assert self._guardian.stdout is not None
        with suppress(BrokenPipeError):
            self._guardian.stdin.close()
        try:
            self._guardian.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._guardian.kill()  # the kernel then kills the program
            self._guardian.wait()
        self._guardian.stdout.close()


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had resident (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"the kernel tells no VmHWM of process {pid}")


def cpu_s(pid: int) -> float:
    """Return the user and system time of a process and the children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
