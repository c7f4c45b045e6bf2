"""A mount as a service manager sees it, and one that was described in config.toml."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import REPOSITORY, Launcher, Mount, User, mount_type, wait_until
from tests.support.notices import NoticeSocket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.replica import ServedReplica


def test_a_manager_is_told_of_the_whole_life(
    mount_at: Callable[..., Mount], tmp_path: Path
) -> None:
    with NoticeSocket(str(tmp_path / "notify")) as notices:
        launcher = Launcher(
            environment={"NOTIFY_SOCKET": notices.name, "WATCHDOG_USEC": "150000"},
        )
        mount = mount_at("--collection-id=cmmd", launcher=launcher)
        mount.start()
        ready = notices.next_with("READY")
        assert ready["STATUS"] == f"IDC v25 at {mount.path}"
        assert os.listdir(mount.path) == ["cmmd"]
        for _ in range(3):
            assert notices.next_with("WATCHDOG") == {"WATCHDOG": "1"}
        mount.process.send_signal(signal.SIGTERM)
        assert notices.next_with("STOPPING")["STOPPING"] == "1"
        assert mount.process.wait(60) == 0
        assert mount_type(mount.path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give capabilities up")
def test_what_the_system_s_unit_leaves_is_enough(user: User, replica: ServedReplica) -> None:
    unit = (REPOSITORY / "systemd" / "system" / "idcfs@.service").read_text()
    (left,) = re.findall(r"^CapabilityBoundingSet=CAP_(\w+)$", unit, re.MULTILINE)
    privileges = (f"--bounding-set=-all,+{left.lower()}", "--inh-caps=-all")
    launcher = replace(user.launcher, prefix=(*user.launcher.prefix, *privileges))
    path = user.new_directory("under-unit")
    with Mount(
        path,
        "--collection-id=cmmd",
        endpoint_url=replica.endpoint_url,
        cache_dir=user.new_directory("under-unit-cache"),
        launcher=launcher,
    ):
        assert user.run("ls", str(path)).stdout == "cmmd\n"


def test_a_mount_that_is_described_is_mounted_and_unmounted_by_name(
    mount_at: Callable[..., Mount], tmp_path: Path
) -> None:
    path = tmp_path / "mnt"
    config = tmp_path / "config.toml"
    config.write_text(f'[mounts.breast]\nmountpoint = "{path}"\ncollection-id = "cmmd"\n')
    launcher = Launcher(environment={"IDCFS_CONFIG": str(config)})
    mount = mount_at("--name=breast", launcher=launcher)
    mount.start()
    assert os.listdir(path) == ["cmmd"]
    # What ExecStopPost= runs leaves a mount alone that answers.
    assert launcher.run("umount", "--stale", "--name=breast").returncode == 0
    assert mount_type(path) == "fuse.idcfs"
    done = launcher.run("umount", "--name=breast")
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.process.wait(60) == 0


def test_what_a_killed_daemon_leaves_is_cleared_before_the_next_start(
    mount_at: Callable[..., Mount],
) -> None:
    mount = mount_at("--collection-id=cmmd")
    mount.start()
    mount.process.kill()
    mount.process.wait()
    assert mount_type(mount.path) == "fuse.idcfs"
    for _ in range(2):  # the second time there is nothing to clear
        done = Launcher().run("umount", "--stale", str(mount.path))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert mount_type(mount.path) is None


def test_the_level_of_the_log_changes_while_it_runs(mount_at: Callable[..., Mount]) -> None:
    with mount_at("--collection-id=cmmd") as mount:
        assert "INFO" not in mount.log
        mount.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "logging everything" in mount.log, "it says so")
        mount.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "again" in mount.log, "it says so")
        assert os.listdir(mount.path) == ["cmmd"]
    assert "unmounted" not in mount.log  # which is an INFO line
