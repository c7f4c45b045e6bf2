"""The demo does what it says and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import DEADLINE_S, Launcher, mount_type, wait_until
from tests.support.replica import cache_directory

if TYPE_CHECKING:
    from idcfs.demo.replica import Replica


@pytest.fixture
def launcher(built_replica: Replica, tmp_path: Path) -> Launcher:
    """Runs the demo on the files that are built already, with a place of its own."""
    assert built_replica.objects
    home = tmp_path / "caches" / "idcfs"
    home.mkdir(parents=True)
    (home / "demo").symlink_to(cache_directory().resolve())
    stage = tmp_path / "tmp"
    stage.mkdir()
    return Launcher(environment={"XDG_CACHE_HOME": str(home.parent), "TMPDIR": str(stage)})


def left_running(stage: Path) -> list[str]:
    """Return the command lines of processes that name the demo's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(stage).encode() in command:
            found.append(command.decode(errors="replace"))
    return found


def assert_nothing_left(launcher: Launcher) -> None:
    stage = Path(launcher.environment["TMPDIR"])
    assert left_running(stage) == []
    assert str(stage) not in Path("/proc/self/mountinfo").read_text()
    assert list(stage.iterdir()) == []


@pytest.mark.slow  # all of it is also in the kept demo below, but for the end without Ctrl-C
def test_demo_ends_by_itself(launcher: Launcher) -> None:
    done = launcher.run("demo", timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert_shows_the_job(done.stdout)
    assert_nothing_left(launcher)


def assert_shows_the_job(output: str) -> None:
    for shown in ("179\n", "LIDC-IDRI-0001", "[LIDC-IDRI-0957]", "97 files fetched", "same bytes"):
        assert shown in output
    assert "Making DICOM files" not in output  # they were there


def test_demo_shows_the_job_can_be_played_with_and_ends_at_ctrl_c(launcher: Launcher) -> None:
    demo = subprocess.Popen(
        launcher.command("demo", "--keep"),
        env=launcher.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    shown: list[str] = []
    for line in demo.stdout:
        shown.append(line)
        if "Ctrl-C here" in line:
            break
    paths = re.findall(r"^  (/.*)$", "".join(shown), re.MULTILINE)
    mountpoint = Path(re.findall(r"The mount stays at (\S+)\.", "".join(shown))[0])
    assert_shows_the_job("".join(shown))
    assert mount_type(mountpoint) == "fuse.idcfs"
    wait_until(lambda: any(Path(paths[0]).iterdir()), "a series shows its files")
    demo.send_signal(signal.SIGINT)
    assert demo.wait(DEADLINE_S) == 0
    demo.stdout.close()
    assert_nothing_left(launcher)
