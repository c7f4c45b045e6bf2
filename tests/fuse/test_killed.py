"""A daemon that is killed dies, whatever it was about to find out about its own mount."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.connections import connection_of, has_ended
from tests.support.mounting import DEADLINE_S, REPOSITORY, Launcher, mount_type, wait_until
from tests.support.notices import NoticeSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica

WATCHED = """
import os, sys, trio
from idcfs.cli.main import main
from idcfs.fuse.adapter import Adapter

told, answers = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), int(sys.argv[2])
del sys.argv[1:3]

def watched(method):
    async def handle(self, *arguments):
        global answers
        own = os.path.exists(f"/proc/self/task/{arguments[-1].pid}")
        os.write(told, f"{method.__name__} {'own' if own else 'other'}\\n".encode())
        if method.__name__ == "statfs":
            answers -= 1
            if answers < 0:
                await trio.sleep_forever()
        return await method(self, *arguments)
    return handle

for name in "lookup", "getattr", "opendir", "statfs", "getxattr", "listxattr", "open":
    setattr(Adapter, name, watched(getattr(Adapter, name)))
main()
"""
"""An idcfs that writes down each request and whether a thread of its own makes it, and that does
not answer any `statfs` but the first few."""

HELPLESS = """
import subprocess

class Popen(subprocess.Popen):
    def __init__(self, command, **options):
        if command[0].endswith("/stat"):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        super().__init__(command, **options)

subprocess.Popen = Popen
"""
"""An interpreter that cannot start `stat`, as where a limit of processes is reached."""


IMPATIENT = """
from idcfs.cli import status
from idcfs.cli.main import main
from idcfs.mount import mountpoints

assert min(mountpoints._PATIENCE_S, status._PATIENCE_S) > 1
mountpoints._PATIENCE_S = status._PATIENCE_S = 1.0
main()
"""


NEVER_TOLD = """
import trio
from idcfs.cli.main import main
from idcfs.mount.probe import Probe

async def ask(self, patience_s):
    await trio.sleep_forever()

Probe.ask = ask
main()
"""
"""An idcfs whose mount answers, but which is not told so."""


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Where the daemon writes down what it was asked."""
    path = tmp_path / "asked"
    path.touch()
    return path


@pytest.fixture
def start(
    replica: ServedReplica, layouts: Path, mountpoint: Path, asked: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start daemons that answer so many `statfs`; they die at the end, whatever they did."""
    started: list[subprocess.Popen[bytes]] = []

    def start(answers: int, **environment: str) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-c", WATCHED, str(asked), str(answers)),
            *("mount", "--foreground", "--collection-id=cmmd"),
            *(f"--endpoint-url={replica.endpoint_url}", f"--cache-dir={layouts}", str(mountpoint)),
        ]
        started.append(subprocess.Popen(command, env={**os.environ, **environment}))
        return started[-1]

    with connection_of(mountpoint) as connection:
        yield start
        for process in started:
            process.kill()
            if not has_ended(process):
                connection.abort()
                process.wait(DEADLINE_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may end a connection if this fails")
@pytest.mark.parametrize("answers", [0, 4], ids=["before it is ready", "while it is watched"])
def test_a_daemon_dies_while_its_mount_is_being_asked(
    start: Callable[..., subprocess.Popen[bytes]], mountpoint: Path, asked: Path, answers: int
) -> None:
    process = start(answers, NOTIFY_SOCKET="@idcfs-nobody", WATCHDOG_USEC="3000000")
    wait_until(lambda: asked.read_text().count("statfs") > answers, "it is asked", 60.0)
    process.kill()
    assert has_ended(process), "SIGKILL does not end it"
    assert mount_type(mountpoint) == "fuse.idcfs"
    done = Launcher().run("umount", "--stale", str(mountpoint))
    assert (done.returncode, done.stderr) == (0, "")
    assert mount_type(mountpoint) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may end a connection if this fails")
@pytest.mark.parametrize("command", ["doctor", "mount", "refresh", "status", "umount --stale"])
def test_a_command_ends_whose_question_has_been_taken_and_is_not_answered(
    start: Callable[..., subprocess.Popen[bytes]], mountpoint: Path, asked: Path, command: str
) -> None:
    """As it does where the daemon is stopped, and has not taken the question."""
    daemon = start(1)
    wait_until(lambda: asked.read_text().count("statfs") == 1, "it is ready", 60.0)
    place = [] if command == "doctor" else [str(mountpoint)]
    asking = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, *command.split(), *place],
        env={**os.environ, "IDCFS_ENDPOINT_URL": "http://127.0.0.1:9"},
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: asked.read_text().count("statfs") == 2, "it asks", 60.0)
    ended = has_ended(asking)
    daemon.kill()
    assert asking.wait(DEADLINE_S) == int(not command.startswith("umount"))
    assert ended, "it waits for its answer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may end a connection if this fails")
def test_a_daemon_asks_nothing_of_its_own_mount(
    start: Callable[..., subprocess.Popen[bytes]], mountpoint: Path, asked: Path
) -> None:
    process = start(1_000, NOTIFY_SOCKET="@idcfs-nobody", WATCHDOG_USEC="300000")
    wait_until(lambda: asked.read_text().count("statfs") > 3, "its watchdog is fed")
    assert os.listdir(mountpoint) == ["cmmd"]
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    assert "opendir other" in asked.read_text()
    assert " own" not in asked.read_text()


def test_a_mount_is_ready_and_watched_where_nobody_can_be_sent_to_ask(
    mount_at: Callable[..., Mount], tmp_path: Path
) -> None:
    helpless = tmp_path / "helpless"
    helpless.mkdir()
    (helpless / "sitecustomize.py").write_text(HELPLESS)
    with NoticeSocket(str(tmp_path / "notify")) as notices:
        launcher = Launcher(
            environment={
                "NOTIFY_SOCKET": notices.name,
                "WATCHDOG_USEC": "150000",
                "PYTHONPATH": os.pathsep.join([str(helpless), str(REPOSITORY)]),
            }
        )
        with mount_at("--collection-id=cmmd", "--log-level=info", launcher=launcher) as mount:
            assert notices.next_with("READY")["READY"] == "1"
            assert notices.next_with("WATCHDOG") == {"WATCHDOG": "1"}
            assert os.listdir(mount.path) == ["cmmd"]
            assert "whether it answers: [Errno 11] Resource temporarily" in mount.log


def test_one_that_is_told_to_stop_before_it_is_ready_has_not_failed(
    replica: ServedReplica, layouts: Path, mountpoint: Path
) -> None:
    options = ["mount", "--foreground", "--collection-id=cmmd", "--log-level=info"]
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", NEVER_TOLD, *options),
            *(f"--endpoint-url={replica.endpoint_url}", f"--cache-dir={layouts}", str(mountpoint)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: mount_type(mountpoint) == "fuse.idcfs", "it is mounted")
    process.terminate()
    _, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, stderr
    assert "got SIGTERM" in stderr
    assert mount_type(mountpoint) is None
