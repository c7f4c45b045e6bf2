"""How a mount starts, or says why it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import DEADLINE_S, Launcher, Mount, mount_type, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.replica import ServedReplica


@pytest.fixture
def mount_command(
    replica: ServedReplica, layouts: Path, mountpoint: Path, tmp_path: Path
) -> Callable[..., list[str]]:
    """The command line of a mount in the background."""

    def make(*arguments: str) -> list[str]:
        return Launcher().command(
            "mount",
            f"--endpoint-url={replica.endpoint_url}",
            f"--cache-dir={layouts}",
            *arguments,
            str(mountpoint),
        )

    os.environ.setdefault("XDG_STATE_HOME", str(tmp_path / "state"))
    return make


def daemon_of(mountpoint: Path) -> int:
    """Return the process id of the daemon behind a mount point."""
    found = subprocess.run(
        ["pgrep", "-f", f"idcfs mount .*{mountpoint}$"], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


def test_a_mount_that_ends_before_it_answers_is_a_failure(
    mount_command: Callable[..., list[str]], mountpoint: Path
) -> None:
    # libfuse only notices at the kernel's first request that it does not want this.
    done = subprocess.run(
        mount_command("-o", "max_read=4096"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "ended before it answered" in done.stderr
    assert mount_type(mountpoint) is None


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(
    mount_command: Callable[..., list[str]], mountpoint: Path, closed: str
) -> None:
    command = mount_command("--collection-id=cmmd")
    done = subprocess.run(["bash", "-c", f'"$@" {closed}', "bash", *command], check=False)
    assert done.returncode == 0
    assert os.listdir(mountpoint) == ["cmmd"]
    assert Launcher().run("umount", str(mountpoint)).returncode == 0


def test_the_daemon_does_not_keep_the_working_directory(
    mount_command: Callable[..., list[str]], mountpoint: Path, tmp_path: Path
) -> None:
    subprocess.run(mount_command("--collection-id=cmmd"), check=True, cwd=tmp_path)
    assert os.readlink(f"/proc/{daemon_of(mountpoint)}/cwd") == "/"  # noqa: PTH115
    assert Launcher().run("umount", str(mountpoint)).returncode == 0


@pytest.mark.parametrize("more", [(), ("--foreground",)])
def test_an_option_that_nobody_knows_is_told_in_one_line(
    mount_command: Callable[..., list[str]], mountpoint: Path, more: tuple[str, ...]
) -> None:
    done = subprocess.run(
        mount_command("-o", "foo,noatime", *more), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "idcfs: -o foo: neither idcfs nor libfuse knows that\n"
    assert mount_type(mountpoint) is None


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--manifest=-", "standard input has no entries"),
        ("--manifest=/dev/null", "the manifest /dev/null has no entries"),
        ("--view=a=@/dev/null", "view 'a': the manifest /dev/null has no entries"),
    ],
)
def test_a_manifest_that_is_kept_is_called_what_it_was(
    mount_command: Callable[..., list[str]], option: str, said: str
) -> None:
    done = subprocess.run(
        mount_command(option), input="", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"idcfs: {said}\n"


def test_one_mount_point_has_one_log_however_it_is_written(
    mount_command: Callable[..., list[str]], mountpoint: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(mountpoint)
    state = tmp_path / "logs"
    for path in (mountpoint, link, link.parent / "nowhere" / ".." / "link"):
        command = [*mount_command("--collection-id=cmmd")[:-1], str(path)]
        subprocess.run(command, check=True, env={**os.environ, "XDG_STATE_HOME": str(state)})
        assert Launcher().run("umount", str(path)).returncode == 0
    assert len(list(state.rglob("*.log"))) == 1


def test_what_is_known_of_a_selection_is_mounted(
    mount_command: Callable[..., list[str]], mountpoint: Path
) -> None:
    done = subprocess.run(
        mount_command("--collection-id=cmmd,nope"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == "idcfs: no collection 'nope' in IDC v25\n"
    assert os.listdir(mountpoint) == ["cmmd"]
    assert Launcher().run("umount", str(mountpoint)).returncode == 0


def test_the_name_of_the_source_can_be_chosen_and_the_type_not(
    mount_command: Callable[..., list[str]], mountpoint: Path
) -> None:
    subprocess.run(mount_command("--collection-id=cmmd", "-ofsname=archive"), check=True)
    with open("/proc/mounts") as table:  # noqa: PTH123
        assert f"archive {mountpoint} fuse.idcfs " in table.read()
    assert Launcher().run("umount", str(mountpoint)).returncode == 0
    refused = subprocess.run(
        mount_command("-osubtype=other"), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "subtype" in refused.stderr


def test_a_mount_point_below_a_dead_mount_names_the_dead_one(
    mount_at: Callable[..., Mount],
) -> None:
    dead = mount_at("--collection-id=cmmd")
    dead.start()
    dead.process.kill()
    dead.process.wait()
    done = Launcher().run("mount", str(dead.path / "below"))
    assert done.returncode == 1
    assert f"fusermount3 -uz {dead.path}\n" in done.stderr


@pytest.mark.parametrize("path", ["x" * 5000, "loop"])
def test_impossible_mount_points_are_told_in_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = Launcher().run("mount", str(tmp_path / path))
    assert done.returncode == 1
    assert done.stderr.startswith("idcfs: the mount point ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_before_the_mount_is_ready_ends_everything(
    mount_command: Callable[..., list[str]], mountpoint: Path, tmp_path: Path
) -> None:
    command = [*mount_command()[:-1], f"--cache-dir={tmp_path / 'cold'}", str(mountpoint)]
    mounting = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: bool(list((tmp_path / "cold").glob("layouts/*.tmp"))), "it compiles")
    os.killpg(mounting.pid, signal.SIGINT)
    # Everyone who holds the pipes has to end before this does.
    out, err = mounting.communicate(timeout=DEADLINE_S)
    assert (mounting.returncode, out, err.strip()) == (130, "", "idcfs: interrupted")
    assert mount_type(mountpoint) is None
