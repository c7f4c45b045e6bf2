"""Real mounts for tests: the command as a user runs it, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
NOBODY = 65534


def wait_until(condition: object, what: str, deadline_s: float = DEADLINE_S) -> None:
    """Ask `condition` until it holds; fail the test when it does not in time."""
    assert callable(condition)
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)


def mount_type(path: Path) -> str | None:
    """Return the type of the file system mounted at `path`, or None."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        fields = line.split(" ")
        if fields[4] == str(path):
            return fields[fields.index("-") + 1]
    return None


def _answers(path: Path) -> bool:
    try:
        os.statvfs(path)
    except PermissionError:  # a mount of another user's
        return True
    except OSError:
        return False
    return True


@contextmanager
def raises_errno(number: int) -> Iterator[None]:
    """Assert that the block raises an OSError with this errno."""
    try:
        yield
    except OSError as exc:
        assert exc.errno == number, exc  # noqa: PT017  # pytest.raises cannot ask for an errno
    else:
        raise AssertionError(f"no error, where {os.strerror(number)!r} was expected")


@dataclass(frozen=True)
class Launcher:
    """How to run idcfs: as which user, with which interpreter and environment."""

    prefix: tuple[str, ...] = ()
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `idcfs` with these arguments."""
        return [*self.prefix, self.python, "-m", "idcfs", *arguments]

    def environ(self) -> dict[str, str]:
        """Return the environment to run it in."""
        return {**os.environ, **self.environment}

    def run(
        self, *arguments: str, stdin: str = "", timeout_s: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run `idcfs` to its end, with `stdin` coming through a pipe."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environ(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


class Mount:
    """`idcfs mount --foreground` in a process of its own, for a `with` block.

    At the end it is unmounted, must exit with status 0, and must have logged nothing
    but what `expected_log` allows.
    """

    def __init__(
        self,
        path: Path,
        *arguments: str,
        endpoint_url: str,
        cache_dir: Path,
        launcher: Launcher | None = None,
        expected_log: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.launcher = launcher or Launcher()
        self._expected_log = expected_log
        self._log_path = path.with_name(f"{path.name}.log")
        self._command = self.launcher.command(
            "mount",
            "--foreground",
            f"--endpoint-url={endpoint_url}",
            f"--cache-dir={cache_dir}",
            *arguments,
            str(path),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        """Where in the log what this daemon says begins."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The daemon."""
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        """What the daemon has printed and logged so far."""
        return self._log_path.read_text(errors="replace")

    def start(self) -> None:
        """Start the daemon and wait until it says that the mount answers, and it does."""
        with self._log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self._command,
                env=self.launcher.environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_up, f"{self._command} mounts; it said: {self.log}")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, f"the daemon ended early: {self.log}"
        # In this order: a dead mount does not answer, and when the daemon has cleared it, the
        # bare directory answers until the new mount is there.
        is_up = _answers(self.path) and mount_type(self.path) == "fuse.idcfs"
        return is_up and b"mounted " in self._log_path.read_bytes()[self._log_start :]

    def stop(self) -> None:
        """Unmount in order and wait for the daemon to end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_S) == 0, self.log
        assert mount_type(self.path) is None
        self._check_log()

    def _check_log(self) -> None:
        surprising = [
            line
            for line in self.log.splitlines()
            if any(level in line for level in ("WARNING", "ERROR", "Traceback"))
            and not any(expected in line for expected in self._expected_log)
        ]
        assert not surprising, "\n".join(surprising)

    def kill(self) -> None:
        """End the daemon as a crash would, and clear the dead mount away."""
        self.clear_away()

    def clear_away(self) -> None:
        """Leave neither daemon nor mount behind, whatever the test has done."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEADLINE_S)
        if mount_type(self.path) is not None:
            subprocess.run(["fusermount3", "-uz", str(self.path)], check=True)

    def resident_bytes(self) -> int:
        """Return the memory that the daemon holds now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel tells no VmRSS")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is not None and kind is None:
            self._check_log()  # the test ended it itself
        elif kind is None:
            self.stop()
        else:
            self.kill()


@dataclass(frozen=True)
class User:
    """An ordinary user: how to run idcfs as one, and a directory that is this user's."""

    launcher: Launcher
    directory: Path
    prefix: tuple[str, ...] = ()

    def new_directory(self, name: str) -> Path:
        """Make a directory that belongs to the user."""
        path = self.directory / name
        path.mkdir()
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        return path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run any command as the user."""
        return subprocess.run(
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )


@contextmanager
def ordinary_user() -> Iterator[User]:
    """Yield a user without privileges: `nobody` when the tests run as root.

    The clone and its interpreter may lie where only root can look, so the clone is
    bound to a place of its own that all may enter.
    """
    directory = Path(tempfile.mkdtemp(prefix="idcfs-user-"))
    if os.geteuid() != 0:
        yield User(Launcher(), directory)
        shutil.rmtree(directory)
        return
    directory.chmod(0o755)
    clone, home = directory / "clone", directory / "home"
    clone.mkdir()
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    environment = {
        "PYTHONPATH": str(clone),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    python = str(clone / Path(sys.executable).relative_to(REPOSITORY))
    subprocess.run(["mount", "--bind", str(REPOSITORY), str(clone)], check=True)
    try:
        # As it is on every distribution. It stays so: other workers have users, too.
        Path("/dev/fuse").chmod(0o666)
        yield User(Launcher(prefix, python, environment), directory, prefix)
    finally:
        subprocess.run(["umount", "--lazy", str(clone)], check=True)
    shutil.rmtree(directory)
