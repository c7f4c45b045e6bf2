"""A refresh, while the kernel waits for answers of ours before it can forget a name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.support.connections import Connection, connection_of, has_ended
from tests.support.indexes import write_index
from tests.support.mounting import DEADLINE_S, Launcher, mount_type, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.demo.series import ReplicaSeries
    from tests.support.replica import ServedReplica

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may end a connection if this fails"
)

DAEMON = """
import pathlib, sys, trio
from idcfs.cli.main import main
from idcfs.fuse import forgetting
from idcfs.fuse.adapter import Adapter

directory, answer = pathlib.Path(sys.argv.pop(1)), Adapter.lookup

async def lookup(self, parent, name, context):
    if name.startswith(b"slow"):
        (directory / "asked").touch()
        while not (directory / "answer").exists():
            await trio.sleep(0.01)
    return await answer(self, parent, name, context)

Adapter.lookup = lookup
gate = directory / "gate.py"
gate.write_text(f'''
import os, sys, time
while not os.path.exists({str(directory / "begin")!r}):
    time.sleep(0.01)
os.execv(sys.executable, [sys.executable, "-I", "-S", {forgetting.__file__!r}, *sys.argv[1:]])
''')
forgetting.__file__ = str(gate)
main()
"""
"""An idcfs in which look-ups of `slow…` are answered when the file `answer` is there, and whose
names are forgotten when the file `begin` is there."""


@dataclass(kw_only=True)
class Bench:
    """Such a mount. Its index has two patients in one collection, and then one of them."""

    daemon: subprocess.Popen[bytes]
    connection: Connection
    directory: Path
    """For the files that the daemon looks for."""
    index: Path
    collection: Path
    series: list[ReplicaSeries]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    @property
    def messengers(self) -> list[int]:
        """Those that have the kernel forget, or are about to."""
        threads = Path(f"/proc/{self.daemon.pid}/task").glob("*/children")
        found = []
        for child in (child for thread in threads for child in thread.read_text().split()):
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):  # another of its processes has ended
                continue
            if any(word.endswith((b"/gate.py", b"/forgetting.py")) for word in command):
                found.append(int(child))
        return found

    def say(self, word: str) -> None:
        (self.directory / word).touch()

    def look_up(self, name: str) -> subprocess.Popen[bytes]:
        """Have somebody look for a name that is not there."""
        command = ["stat", str(self.collection / name)]
        self.started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        return self.started[-1]

    def show(self, series: list[ReplicaSeries]) -> None:
        write_index(self.index, series)
        self.daemon.send_signal(signal.SIGHUP)

    def start_to_forget(self) -> int:
        """Refresh up to where the kernel begins to wait; return who asked it to."""
        self.show(self.series[:1])
        wait_until(lambda: self.messengers, "somebody is sent to the kernel")
        (messenger,) = self.messengers
        self.say("begin")
        wait_until(lambda: _waits(messenger), "the kernel waits")
        return messenger


def _waits(process: int) -> bool:
    """Tell whether a thread has been where no signal reaches it for a while, as none is else."""
    for _ in range(20):
        states = Path(f"/proc/{process}/task").glob("*/stat")
        if not any(") D " in stat.read_text() for stat in states):
            return False
        threading.Event().wait(0.01)
    return True


def is_there(process: int) -> bool:
    with suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    return False


def two_patients(replica: ServedReplica) -> list[ReplicaSeries]:
    """Return a series each of two patients in one collection."""
    small = [each for each in replica.series if each.instance_count < 20]
    for first in small:
        for other in small:
            place, another = default_path(first).parts, default_path(other).parts
            if place[0] == another[0] and place[1] != another[1]:
                return [first, other]
    raise AssertionError("the replica has no such series")


@pytest.fixture
def bench(replica: ServedReplica, mountpoint: Path, tmp_path: Path) -> Iterator[Bench]:
    series = two_patients(replica)
    index, directory = tmp_path / "index.parquet", tmp_path / "words"
    directory.mkdir()
    write_index(index, series)
    command = [
        *(sys.executable, "-c", DAEMON, str(directory), "mount", "--foreground"),
        *(f"--index={index}", f"--endpoint-url={replica.endpoint_url}"),
        *(f"--cache-dir={tmp_path / 'cache'}", "--log-level=info", str(mountpoint)),
    ]
    with connection_of(mountpoint) as connection, (directory / "log").open("wb") as log:
        made = Bench(
            daemon=subprocess.Popen(command, stderr=log),
            connection=connection,
            directory=directory,
            index=index,
            collection=mountpoint / series[0].collection_id,
            series=series,
        )
        with _cleared_away(made):
            wait_until(lambda: mount_type(mountpoint) == "fuse.idcfs", "it mounts")
            assert len(os.listdir(made.collection)) == 2
            yield made


@contextmanager
def _cleared_away(bench: Bench) -> Iterator[None]:
    try:
        yield
    finally:
        bench.daemon.kill()
        if not has_ended(bench.daemon) or mount_type(bench.collection.parent) is not None:
            bench.connection.abort()
        bench.daemon.wait(DEADLINE_S)
        for process in bench.started:
            process.kill()
            process.wait(DEADLINE_S)


def ends_with_its_mount(bench: Bench, messenger: int) -> None:
    """Kill the daemon: nothing and nobody may be left that waits for it."""
    bench.daemon.kill()
    assert has_ended(bench.daemon), "SIGKILL does not end it"
    for process in bench.started:
        assert has_ended(process), "who uses the mount waits for ever"
        assert process.returncode == 1
    wait_until(lambda: not is_there(messenger), "who asked the kernel is gone", 15.0)
    done = Launcher().run("umount", "--stale", str(bench.collection.parent))
    assert (done.returncode, done.stderr) == (0, "")
    assert mount_type(bench.collection.parent) is None


def test_a_daemon_is_killed_while_the_kernel_waits_for_its_answer(bench: Bench) -> None:
    bench.look_up("slow")
    wait_until((bench.directory / "asked").exists, "it is looked up")
    ends_with_its_mount(bench, bench.start_to_forget())


def test_a_daemon_is_killed_before_it_has_taken_what_the_kernel_waits_for(bench: Bench) -> None:
    bench.show(bench.series[:1])
    wait_until(lambda: bench.messengers, "somebody is sent to the kernel")
    (messenger,) = bench.messengers
    bench.daemon.send_signal(signal.SIGSTOP)
    bench.look_up("missing")
    wait_until(lambda: bench.connection.waiting() == 1, "it is looked up")
    bench.say("begin")
    wait_until(lambda: _waits(messenger), "the kernel waits")
    ends_with_its_mount(bench, messenger)


def test_a_daemon_that_is_to_stop_answers_what_the_kernel_waits_for(bench: Bench) -> None:
    looking = bench.look_up("slow")
    wait_until((bench.directory / "asked").exists, "it is looked up")
    messenger = bench.start_to_forget()
    bench.daemon.terminate()
    wait_until(lambda: "got SIGTERM" in bench.log, "it has been told")
    bench.say("answer")
    assert looking.wait(DEADLINE_S) == 1
    assert bench.daemon.wait(DEADLINE_S) == 0, bench.log
    assert not is_there(messenger)
    assert "WARNING" not in bench.log


def test_what_the_kernel_was_not_told_is_said(bench: Bench) -> None:
    bench.look_up("slow")
    wait_until((bench.directory / "asked").exists, "it is looked up")
    os.kill(bench.start_to_forget(), signal.SIGKILL)
    bench.say("answer")
    wait_until(lambda: "is shown instead of" in bench.log, "it has gone on")
    assert "shows some names as before for a day: who tells it so was ended by sig" in bench.log
    assert bench.daemon.poll() is None
    assert os.listdir(bench.collection) == [default_path(bench.series[0]).parts[1]]


def test_names_are_forgotten_in_a_directory_that_is_always_in_use(bench: Bench) -> None:
    """Eight look something up there without a pause, and eight list it."""
    bench.say("begin")
    bench.say("answer")
    ended = threading.Event()
    errors: list[str] = []

    def use(look_up: bool) -> None:
        while not ended.is_set():
            try:
                if look_up:
                    assert not (bench.collection / f"slow-{uuid.uuid4()}").exists()
                else:
                    os.listdir(bench.collection)
            except (OSError, AssertionError) as exc:
                errors.append(repr(exc))

    users = [threading.Thread(target=use, args=(number % 2 == 0,)) for number in range(16)]
    for user in users:
        user.start()
    try:
        gone = bench.collection / default_path(bench.series[1]).parts[1]
        for turn in range(4):
            shown = bench.series[: 1 + turn % 2]
            bench.show(shown)
            wait_until(lambda: gone.exists() == (len(shown) == 2), "the kernel has forgotten it")  # noqa: B023
            wait_until(lambda: bench.log.count("is shown instead of") == turn + 1, "it is done")  # noqa: B023
    finally:
        ended.set()
        for user in users:
            user.join(DEADLINE_S)
    assert errors == []
