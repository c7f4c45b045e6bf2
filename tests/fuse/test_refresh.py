"""A mount that goes on to another index while it serves."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from idcfs.model import DEFAULT_TEMPLATE
from tests.fuse.test_tree import default_path
from tests.support.indexes import write_index
from tests.support.mounting import REPOSITORY, Launcher, Mount, User, mount_type, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from idcfs.demo.series import ReplicaSeries
    from tests.support.replica import ServedReplica

READERS = 16
READ_BYTES = 256 * 1024
"""Of each file, in each round: enough to tell a file from any other."""


@pytest.fixture
def some(replica: ServedReplica) -> list[ReplicaSeries]:
    """Twelve small series, each in a directory of its own, in no particular order."""
    small = [each for each in replica.series if each.instance_count < 20 and each.modality != "SM"]
    return sorted(small, key=lambda each: each.uuid)[:12]


def refresh(mount: Mount, *arguments: str) -> subprocess.CompletedProcess[str]:
    return refresh_at(mount.path, *arguments)


def refresh_at(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return Launcher().run("refresh", *arguments, str(path))


def status(mount: Mount) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((mount.path / ".idcfs" / "status.json").read_text())
    return told


def leaves(mount: Mount) -> set[str]:
    return leaves_at(mount.path)


def leaves_at(path: Path) -> set[str]:
    return {os.path.relpath(directory, path) for directory, _, files in os.walk(path) if files}


def shown_as(series: Sequence[ReplicaSeries]) -> set[str]:
    return {str(default_path(each)) for each in series}


class Reader(threading.Thread):
    """Walks series that stay, again and again, and reads what is there from the daemon."""

    def __init__(self, root: Path, expected: dict[str, dict[str, str]]) -> None:
        super().__init__(daemon=True)
        self.rounds = 0
        self.errors: list[str] = []
        self.inodes: dict[str, int] = {}
        self.ended = False
        self._root = root
        self._expected = expected

    def run(self) -> None:
        while not self.ended:
            for leaf, files in self._expected.items():
                try:
                    self._read_leaf(leaf, files)
                except (OSError, AssertionError) as exc:
                    self.errors.append(f"{leaf}: {exc!r}")
            self.rounds += 1

    def _read_leaf(self, leaf: str, files: dict[str, str]) -> None:
        path = self._root / leaf
        assert sorted(os.listdir(path)) == sorted(files)
        for above in (path, *path.parents[: leaf.count("/")]):
            self._note(str(above), above.stat().st_ino)
        for name, digest in files.items():
            # Round the page cache, which would answer without the daemon.
            descriptor = os.open(path / name, os.O_RDONLY | os.O_DIRECT)
            try:
                status = os.fstat(descriptor)
                content = os.pread(descriptor, READ_BYTES, 0)
            finally:
                os.close(descriptor)
            assert hashlib.sha256(content).hexdigest() == digest, f"wrong bytes in {name}"
            self._note(f"{leaf}/{name}", status.st_ino)

    def _note(self, path: str, inode: int) -> None:
        assert self.inodes.setdefault(path, inode) == inode, f"{path} has another number"


def test_an_index_is_swapped_under_sixteen_readers(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    tmp_path: Path,
    some: list[ReplicaSeries],
) -> None:
    going, staying, coming = some[:3], some[3:9], some[9:]
    index = tmp_path / "index.parquet"
    write_index(index, [*going, *staying])
    mount = mount_at(f"--index={index}", cache_dir=tmp_path / "cache")
    expected = {
        str(default_path(each)): {
            found.name: hashlib.sha256(found.path.read_bytes()[:READ_BYTES]).hexdigest()
            for found in replica.objects_of(each)
        }
        for each in staying
    }
    with mount:
        assert leaves(mount) == shown_as([*going, *staying])
        for each in coming:  # the kernel remembers that these are missing
            assert not (mount.path / default_path(each)).exists()
        gone = replica.objects_of(going[0])[0]
        readers = [Reader(mount.path, expected) for _ in range(READERS)]
        with (mount.path / default_path(going[0]) / gone.name).open("rb", buffering=0) as held:
            for reader in readers:
                reader.start()
            for turn in range(2):
                rounds = [reader.rounds for reader in readers]
                wait_until(
                    lambda: all(r.rounds > n for r, n in zip(readers, rounds, strict=True)),  # noqa: B023
                    "each reader has read all once more",
                )
                shown = [*going, *staying] if turn else [*staying, *coming]
                write_index(index, shown, backwards=not turn)
                done = refresh(mount)
                assert (done.returncode, done.stderr) == (0, "")
                assert f"now the index {index}" in done.stdout
                assert "9 series, 3 came and 3 went" in done.stdout
                assert leaves(mount) == shown_as(shown)
                for each in going if not turn else coming:
                    assert not (mount.path / default_path(each)).exists()
                for each in shown:
                    assert (mount.path / default_path(each)).is_dir()
                assert os.fstat(held.fileno()).st_size == gone.size_bytes
            rounds = [reader.rounds for reader in readers]
            wait_until(
                lambda: all(r.rounds > n + 1 for r, n in zip(readers, rounds, strict=True)),
                "each reader has read all once more",
            )
            # Nothing of it was read before, so that the daemon has to fetch it now.
            assert held.read() == gone.path.read_bytes()
        maps = Path(f"/proc/{mount.process.pid}/maps")
        wait_until(
            lambda: len(set(re.findall(r"\S+\.layout", maps.read_text()))) == 1,
            "the earlier layouts are closed",
        )
        for reader in readers:
            reader.ended = True
        for reader in readers:
            reader.join(60)
            assert not reader.is_alive()
            assert reader.errors == []
            assert reader.inodes == readers[0].inodes
        assert status(mount)["series"] == 9


def test_a_bad_index_leaves_the_old_one_serving(
    mount_at: Callable[..., Mount], tmp_path: Path, some: list[ReplicaSeries]
) -> None:
    index = tmp_path / "index.parquet"
    write_index(index, some)
    mount = mount_at(
        f"--index={index}",
        f"--collection-id={some[0].collection_id}",
        cache_dir=tmp_path / "cache",
        expected_log=["the refresh failed"],
    )
    with mount:
        before, version = leaves(mount), status(mount)["index_version"]
        done = refresh(mount)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"still the index {index}")
        others = [each for each in some if each.collection_id != some[0].collection_id]
        for turn, reason in enumerate(["is not a Parquet file", "no collection", "cannot read"]):
            index.unlink()
            if turn == 0:
                index.write_text("not Parquet")
            elif turn == 1:
                write_index(index, others)
            done = refresh(mount)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.count("\n") == 1
            assert f"stays at {mount.path}: " in done.stderr
            assert reason in done.stderr
            assert mount.log.count("the refresh failed") == turn + 1
            assert leaves(mount) == before
            assert status(mount)["index_version"] == version
        told = json.loads(refresh(mount, "--json").stdout)
        assert told["refreshed"] is False
        assert "cannot read" in told["error"]


@pytest.mark.parametrize(
    ("template", "listed_late"), [("", False), (DEFAULT_TEMPLATE, False), (DEFAULT_TEMPLATE, True)]
)
def test_a_revised_series_has_its_new_files_and_open_ones_go_on(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    tmp_path: Path,
    some: list[ReplicaSeries],
    template: str,
    listed_late: bool,
) -> None:
    first, second, other = sorted(some, key=lambda each: each.instance_count)[-3:]
    old, new = replica.objects_of(first), replica.objects_of(second)
    index = tmp_path / "index.parquet"
    write_index(index, [first])
    mount = mount_at(f"--index={index}", f"--dir-template={template}", cache_dir=tmp_path / "cache")
    place = mount.path / default_path(first) if template else mount.path
    with mount, (place / old[0].name).open("rb", buffering=0) as held:
        assert sorted(os.listdir(place)) == sorted(each.name for each in old)
        open_directory = os.open(place, os.O_RDONLY)
        number = os.fstat(open_directory).st_ino
        # The first series gets the files of the second, as if it had been revised.
        write_index(index, [first, other], revised={first.uuid: second.uuid})
        mount.process.send_signal(signal.SIGHUP)
        wait_until(lambda: status(mount)["series"] == 2, "it has gone on")
        if listed_late:  # what this is told, which is out of date, must not stay with the kernel
            assert os.listdir(open_directory)
        os.close(open_directory)
        # One name after the other, by a process of its own.
        wait_until(
            lambda: not any((place / each.name).exists() for each in old),
            "the kernel has forgotten them",
        )
        for each in new:
            assert (place / each.name).read_bytes() == each.path.read_bytes()
        if template:
            assert sorted(os.listdir(place)) == sorted(each.name for each in new)
        assert place.stat().st_ino == number
        assert os.fstat(held.fileno()).st_size == old[0].size_bytes
        assert held.read() == old[0].path.read_bytes()


def test_the_package_of_the_index_is_upgraded(
    mount_at: Callable[..., Mount], tmp_path: Path, some: list[ReplicaSeries]
) -> None:
    packages = tmp_path / "site-packages"
    package = packages / "idc_index_data"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (packages / "idc_index_data-26.0.0.dist-info").mkdir()
    write_index(package / "idc_index.parquet", some[:3])
    launcher = Launcher(environment={"PYTHONPATH": f"{packages}:{REPOSITORY}"})
    with mount_at(cache_dir=tmp_path / "cache", launcher=launcher) as mount:
        assert status(mount)["index_version"] == "26.0.0"
        write_index(package / "idc_index.parquet", some[1:5])
        (packages / "idc_index_data-26.0.0.dist-info").rename(
            packages / "idc_index_data-27.1.0.dist-info"
        )
        done = refresh(mount)
        assert done.stdout.startswith(f"now IDC v27 (27.1.0) at {mount.path}: 4 series, 2 came")
        assert leaves(mount) == shown_as(some[1:5])
        told = status(mount)
        assert (told["release"], told["index_version"]) == ("IDC v27", "27.1.0")
        assert "27.1.0" in (mount.path / ".idcfs" / "version").read_text()


def test_a_user_refreshes_what_is_the_user_s_alone(
    user: User, replica: ServedReplica, some: list[ReplicaSeries]
) -> None:
    index = user.new_directory("indexes") / "index.parquet"
    write_index(index, some[:2])
    index.chmod(0o644)
    mount = Mount(
        user.new_directory("refreshed"),
        f"--index={index}",
        "--uid=1",  # whosever its files are said to be
        endpoint_url=replica.endpoint_url,
        cache_dir=user.new_directory("refreshed-cache"),
        launcher=user.launcher,
    )
    with mount:
        write_index(index, some[1:3])
        index.chmod(0o644)
        if os.geteuid() == 0:
            done = refresh(mount)
            assert (done.returncode, done.stdout) == (1, "")
            assert "is another user's, who alone may refresh it" in done.stderr
        done = user.launcher.run("refresh", str(mount.path))
        assert (done.returncode, done.stderr) == (0, "")
        assert "2 series, 1 came and 1 went" in done.stdout


def test_a_manifest_is_read_again(
    mount_at: Callable[..., Mount], tmp_path: Path, some: list[ReplicaSeries]
) -> None:
    def in_both(series: Sequence[ReplicaSeries]) -> set[str]:
        return {f"{view}/{path}" for view in ("one", "two") for path in shown_as(series)}

    index, manifest = tmp_path / "index.parquet", tmp_path / "cohort.txt"
    write_index(index, some)
    lines = [f"s3://{each.bucket}/{each.uuid}/*\n" for each in some]
    manifest.write_text("".join(lines[:2]))
    with mount_at(
        f"--index={index}",
        f"--manifest={manifest}",
        "--view=one=",
        "--view=two=",
        cache_dir=tmp_path / "cache",
        expected_log=["cohort.txt, line 4: "],
    ) as mount:
        assert leaves(mount) == in_both(some[:2])
        manifest.write_text("".join(lines[1:4]) + "nonsense\n")
        done = refresh(mount)
        assert mount.log.count("cohort.txt, line 4: ") == 1
        assert "3 series, 2 came and 1 went" in done.stdout
        assert leaves(mount) == in_both(some[1:4])
        assert lines[0] not in (mount.path / ".idcfs" / "manifest").read_text()


def test_a_manifest_from_a_pipe_lasts(
    tmp_path: Path, replica: ServedReplica, some: list[ReplicaSeries]
) -> None:
    index, mountpoint = tmp_path / "index.parquet", tmp_path / "mnt"
    write_index(index, some)
    mountpoint.mkdir()
    lines = [f"s3://{each.bucket}/{each.uuid}/*\n" for each in some[:3]]
    command = Launcher().command(
        "mount",
        "--manifest=-",
        f"--index={index}",
        f"--endpoint-url={replica.endpoint_url}",
        f"--cache-dir={tmp_path / 'cache'}",
        str(mountpoint),
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        command, input="".join(lines), text=True, check=False, env=environment, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    try:
        write_index(index, some[1:])
        told = Launcher().run("refresh", str(mountpoint))
        assert (told.returncode, told.stderr) == (0, "")
        assert "2 series, 0 came and 1 went" in told.stdout
    finally:
        assert Launcher().run("umount", str(mountpoint)).returncode == 0


def test_a_mount_is_ended_in_the_middle_of_a_refresh(
    mount_at: Callable[..., Mount], tmp_path: Path, some: list[ReplicaSeries]
) -> None:
    index, manifest = tmp_path / "index.parquet", tmp_path / "cohort.txt"
    write_index(index, some)
    manifest.write_text("".join(f"s3://{each.bucket}/{each.uuid}/*\n" for each in some))
    mount = mount_at(f"--index={index}", f"--manifest={manifest}", cache_dir=tmp_path / "cache")
    mount.start()
    # Whoever prepares the next index hangs for ever at this.
    manifest.unlink()
    os.mkfifo(manifest)
    asking = subprocess.Popen(
        Launcher().command("refresh", str(mount.path)), stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: _children(mount.process.pid), "the next index is being prepared")
    (child,) = _children(mount.process.pid)
    mount.process.send_signal(signal.SIGTERM)
    _, stderr = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert "cannot be asked" in stderr
    assert mount.process.wait(60) == 0
    assert mount_type(mount.path) is None
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")
    assert mount.log.count("WARNING") == mount.log.count("is being unmounted") == 1


def test_a_mount_in_the_foreground_of_a_terminal_ends_with_it(
    tmp_path: Path, replica: ServedReplica, some: list[ReplicaSeries]
) -> None:
    index, mountpoint = tmp_path / "index.parquet", tmp_path / "mnt"
    write_index(index, some)
    mountpoint.mkdir()
    options = [f"--index={index}", f"--endpoint-url={replica.endpoint_url}"]
    daemon, terminal = _mount_at_a_terminal(mountpoint, "--foreground", *options)
    try:
        wait_until(lambda: mount_type(mountpoint) == "fuse.idcfs", "it mounts")
        assert os.listdir(mountpoint)
        daemon.send_signal(signal.SIGHUP)  # the terminal is there: a refresh
        assert os.listdir(mountpoint)
        assert json.loads(refresh_at(mountpoint, "--json").stdout)["refreshed"] is False
    finally:
        os.close(terminal)
        assert daemon.wait(60) == 0, (tmp_path / "log").read_text()
    assert mount_type(mountpoint) is None


def test_a_mount_in_the_background_has_nothing_to_do_with_the_terminal(
    mountpoint: Path, tmp_path: Path, replica: ServedReplica, some: list[ReplicaSeries]
) -> None:
    def refreshes(shown: Sequence[ReplicaSeries]) -> None:
        write_index(index, shown)
        os.kill(daemon, signal.SIGHUP)
        wait_until(lambda: leaves_at(mountpoint) == shown_as(shown), "it is refreshed")

    index = tmp_path / "index.parquet"
    write_index(index, some[:2])
    options = [f"--index={index}", f"--endpoint-url={replica.endpoint_url}"]
    command, terminal = _mount_at_a_terminal(mountpoint, *options)
    assert command.wait(60) == 0, (tmp_path / "log").read_text()
    daemon = json.loads((mountpoint / ".idcfs" / "status.json").read_text())["pid"]
    refreshes(some[1:4])
    os.close(terminal)
    refreshes(some[2:5])
    assert Launcher().run("umount", str(mountpoint)).returncode == 0


def _mount_at_a_terminal(mountpoint: Path, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start `idcfs mount` in a session of its own, and return its end of the terminal, too."""
    directory = mountpoint.parent
    launcher = Launcher(("setsid", "--ctty"), environment={"XDG_STATE_HOME": f"{directory}/state"})
    terminal, its_end = os.openpty()
    with (directory / "log").open("wb") as log:
        started = subprocess.Popen(
            launcher.command("mount", *options, f"--cache-dir={directory}/cache", str(mountpoint)),
            env=launcher.environ(),
            stdin=its_end,
            stdout=log,
            stderr=log,
        )
    os.close(its_end)
    return started, terminal


def _children(process: int) -> list[str]:
    """Return those that prepare an index: a process that asks the mount may be there too."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    children = [child for thread in threads for child in thread.read_text().split()]
    return [child for child in children if "idcfs.mount.succession" in _command_of(child)]


def _command_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def test_only_mounts_of_ours_are_refreshed(tmp_path: Path) -> None:
    done = Launcher().run("refresh", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing is mounted" in done.stderr
    done = Launcher().run("refresh", "/proc")
    assert "is not idcfs but proc" in done.stderr
