"""`idcfs umount` while somebody uses the mount: it says who, waits, or lets go at once."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.mount import mountpoints
from tests.fuse.test_tree import default_path
from tests.support.mounting import (
    DEADLINE_S,
    REPOSITORY,
    Launcher,
    Mount,
    User,
    mount_type,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.replica import ServedReplica

OPENS = "file = open(path, 'rb'); file.read(1000)"
CHANGES_DIRECTORY = "os.chdir(os.path.dirname(path))"
# mmap keeps a descriptor of its own, which a C program need not.
MAPS = """with open(path, 'rb') as file: kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
for number in range(3, 100):
    try: os.close(number)
    except OSError: pass"""


@dataclass(frozen=True)
class Busy:
    """A mount, one of its files, and how commands are run by whoever mounted it."""

    mount: Mount
    file: Path
    size_bytes: int
    launcher: Launcher

    @contextmanager
    def reader(self, code: str, then: str = "") -> Iterator[subprocess.Popen[str]]:
        """Run a program that uses the file, and does something else at a line of its input."""
        text = f"import mmap, os, sys; path = {str(self.file)!r}\n{code}\n"
        text += f"print('there', flush=True); sys.stdin.readline()\n{then}"
        with subprocess.Popen(
            [*self.launcher.prefix, self.launcher.python, "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield process
            process.kill()

    def name(self, reader: subprocess.Popen[str]) -> str:
        return f"{Path(self.launcher.python).name} (process {reader.pid})"

    def umount(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.launcher.run("umount", *options, str(self.mount.path))


@pytest.fixture(params=["root", "ordinary user"])
def busy(
    request: pytest.FixtureRequest,
    user: User,
    replica: ServedReplica,
    layouts: Path,
    tmp_path: Path,
) -> Iterator[Busy]:
    """A mount of root's, or of an ordinary user's."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    series = replica.one("CT", collection_id="lidc_idri")
    is_root = request.param == "root"
    path = tmp_path / "mnt" if is_root else user.new_directory(f"mnt-{tmp_path.name}")
    path.mkdir(exist_ok=True)
    mount = Mount(
        path,
        f"--patient-id={series.patient_id}",
        endpoint_url=replica.endpoint_url,
        cache_dir=layouts if is_root else user.directory / "home" / "cache" / "idcfs",
        launcher=Launcher() if is_root else user.launcher,
    )
    each = replica.objects_of(series)[0]
    file = path / default_path(series) / each.name
    mount.start()
    try:
        yield Busy(mount, file, each.size_bytes, mount.launcher)
    finally:
        mount.clear_away()


@pytest.mark.parametrize("code", [OPENS, CHANGES_DIRECTORY, MAPS], ids=["open", "cwd", "mapped"])
def test_who_is_busy_is_named(busy: Busy, code: str) -> None:
    with busy.reader(code) as reader:
        done = busy.umount()
        assert done.returncode == 1
        assert busy.name(reader) in done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stderr.count("(process ") == 1, "nobody else uses it"
        assert mount_type(busy.mount.path) == "fuse.idcfs"
    assert busy.umount().returncode == 0
    assert busy.mount.process.wait(DEADLINE_S) == 0


def test_from_a_shell_inside_only_the_shell_is_named(busy: Busy) -> None:
    umount = shlex.join(busy.launcher.command("umount", str(busy.mount.path))[-5:])
    shell = ["bash", "-c", f"cd {shlex.quote(str(busy.mount.path))} && {umount}; echo $$ $?"]
    done = subprocess.run(
        [*busy.launcher.prefix, *shell],
        env={**busy.launcher.environ(), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    number, status = done.stdout.split()
    assert status == "1"
    assert f"in use by bash (process {number}, your own shell: cd out of there);" in done.stderr
    assert busy.umount().returncode == 0
    assert busy.mount.process.wait(DEADLINE_S) == 0


def test_lazily_it_goes_at_once_and_the_reader_reads_on(busy: Busy) -> None:
    with busy.reader(OPENS, "print(len(file.read()), flush=True)") as reader:
        assert busy.umount("--lazy").returncode == 0
        assert mount_type(busy.mount.path) is None
        assert busy.mount.process.poll() is None, "it serves who has it open"
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert int(reader.stdout.readline()) == busy.size_bytes - 1000
    assert busy.mount.process.wait(DEADLINE_S) == 0


# For an ordinary user fusermount3 looks into the mount, and hangs with it.
@pytest.mark.parametrize("busy", ["root"], indirect=True)
def test_a_daemon_that_hangs_can_be_got_rid_of(busy: Busy) -> None:
    wait_until(lambda: "mounted IDC" in busy.mount.log, "it knows that it answers")
    busy.mount.process.send_signal(signal.SIGSTOP)
    try:
        done = busy.umount("--lazy")
    finally:
        busy.mount.process.send_signal(signal.SIGCONT)
    assert (done.returncode, done.stderr) == (0, "")
    assert mount_type(busy.mount.path) is None
    assert busy.mount.process.wait(DEADLINE_S) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount fusectl, as systemd does")
def test_what_is_told_of_a_daemon_that_hangs_ends_its_mount(
    mount_at: Callable[..., Mount], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = tmp_path / "connections"
    connections.mkdir()
    monkeypatch.setattr(mountpoints, "_CONNECTIONS", connections)
    subprocess.run(["mount", "-t", "fusectl", "none", str(connections)], check=True)
    mount = mount_at("--collection-id=cmmd")
    try:
        mount.start()
        wait_until(lambda: "mounted IDC" in mount.log, "it knows that it answers")
        mount.process.send_signal(signal.SIGSTOP)
        told = mountpoints.how_to_end(mount.path)
        assert told.startswith(f"echo 1 > {connections}/")
        umount = shlex.join(Launcher().command("umount"))
        script = told.replace("idcfs umount", umount)
        subprocess.run(["sh", "-c", script], check=True, timeout=DEADLINE_S)
        assert mount_type(mount.path) is None
    finally:
        mount.process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", str(connections)], check=True)
    assert mount.process.wait(DEADLINE_S) == 0, mount.log


def test_it_waits_for_who_is_busy(busy: Busy) -> None:
    terminal, theirs = os.openpty()
    with busy.reader(OPENS) as reader:
        command = busy.launcher.command("umount", f"--wait={DEADLINE_S:.0f}", str(busy.mount.path))
        with subprocess.Popen(command, env=busy.launcher.environ(), stderr=theirs) as waiting:
            os.close(theirs)
            with os.fdopen(terminal) as told:
                assert f"waiting for {busy.name(reader)}" in told.readline()
                assert waiting.poll() is None
                assert mount_type(busy.mount.path) == "fuse.idcfs"
                assert reader.stdin is not None
                reader.stdin.close()
                assert waiting.wait(DEADLINE_S) == 0
    assert mount_type(busy.mount.path) is None
    assert busy.mount.process.wait(DEADLINE_S) == 0


def test_it_waits_no_longer_than_it_was_told(busy: Busy) -> None:
    with busy.reader(OPENS) as reader:
        began = time.monotonic()
        done = busy.umount("--wait=0.5")
        assert 0.5 <= time.monotonic() - began < DEADLINE_S / 2
        assert done.returncode == 1
        assert busy.name(reader) in done.stderr
        assert done.stderr.count("\n") == 1, "in a pipe it is told once"
    busy.mount.process.send_signal(signal.SIGTERM)
    assert busy.mount.process.wait(DEADLINE_S) == 0
