"""Lines of /etc/fstab, as mount(8) handles them, in a mount namespace of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import DEADLINE_S, NOBODY, REPOSITORY, mount_type

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mounting import User
    from tests.support.replica import ServedReplica

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may make a mount namespace and edit its /etc/fstab"
)


@dataclass(frozen=True)
class Fstab:
    """Runs shell scripts where /etc/fstab says something else, and /sbin has our helper."""

    directory: Path
    options: str
    config: Path

    @property
    def mountpoint(self) -> Path:
        return self.directory / "mnt"

    def run(self, line: str, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script with one line in the table; MNT is filled in, and OPTIONS in the line.

        The namespace is private: nothing of what the script mounts is seen outside, and
        at its end it is let go of.
        """
        where = str(self.mountpoint)
        line = line.replace("MNT", where).replace("OPTIONS", self.options)
        (self.directory / "fstab").write_text(f"{line}\n")
        script = script.replace("MNT", where)
        programs = f"lowerdir={self.directory / 'sbin'}:/usr/sbin"
        text = "\n".join(
            [
                "set -eu",
                f"mount --bind {self.directory / 'fstab'} /etc/fstab",
                f"mount -t overlay -o {programs} overlay /usr/sbin",
                f"trap 'umount --lazy {where} 2>/dev/null || true' EXIT",
                "cd /",
                script,
            ]
        )
        return subprocess.run(
            [
                "unshare",
                "--mount",
                "--propagation=private",
                "bash",
                "-c",
                text.replace("MNT", where),
            ],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "IDCFS_CONFIG": str(self.config),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )


def write_program(path: Path, module: str, python: str, paths: str) -> None:
    """Write what the package's installation would put there, without installing it."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(paths)}\n"
        f"exec {shlex.quote(python)} -c 'from {module} import main; main()' \"$@\"\n"
    )
    path.chmod(0o755)


@pytest.fixture
def fstab(tmp_path: Path, replica: ServedReplica, layouts: Path) -> Fstab:
    for path, module in (("sbin/mount.idcfs", "mount_helper"), ("sbin/idcfs", "main")):
        write_program(tmp_path / path, f"idcfs.cli.{module}", sys.executable, str(REPOSITORY))
    config = tmp_path / "config.toml"
    config.write_text('[mounts.breast]\nmountpoint = "/nowhere"\ncollection-id = "cmmd"\n')
    (tmp_path / "mnt").mkdir()
    options = f"endpoint_url={replica.endpoint_url},cache_dir={layouts}"
    return Fstab(tmp_path, options, config)


@pytest.mark.parametrize(
    "line",
    [
        "breast MNT idcfs _netdev,nofail,allow_other,uid=7,gid=8,OPTIONS 0 0",
        "breast MNT fuse.idcfs _netdev,defaults,allow_other,uid=7,gid=8,OPTIONS 0 0",
        "idcfs#breast MNT fuse rw,x-systemd.automount,allow_other,uid=7,gid=8,OPTIONS 0 0",
        "idc MNT idcfs nosuid,nodev,noexec,uid=7,gid=8,collection_id=cmmd,OPTIONS 0 0",
    ],
    ids=["idcfs", "fuse.idcfs", "idcfs#", "whole"],
)
def test_mount_a_mounts_what_the_table_says(fstab: Fstab, line: str) -> None:
    done = fstab.run(
        line, "mount -a\nls MNT\nstat --format='%u %g' MNT\nfindmnt -no FSTYPE,OPTIONS MNT"
    )
    assert done.returncode == 0, done.stderr
    *_, listing, owner, table = done.stdout.splitlines()
    assert (listing, owner) == ("cmmd", "7 8")
    assert table.split()[0] == "fuse.idcfs"
    options = table.split()[1].split(",")
    assert "ro" in options
    assert ("allow_other" in options) == ("allow_other" in line)
    assert ("noexec" in options) == ("noexec" in line)
    assert mount_type(fstab.mountpoint) is None  # it was mounted in there only


def test_mount_a_leaves_alone_what_is_mounted(fstab: Fstab) -> None:
    done = fstab.run(
        "breast MNT idcfs _netdev,OPTIONS 0 0",
        "mount -a\nmount -a\nfindmnt -n MNT | wc -l\numount MNT\nfindmnt MNT || echo gone",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["1", "gone"]


def test_noauto_waits_until_it_is_asked_for(fstab: Fstab) -> None:
    done = fstab.run(
        "breast MNT idcfs noauto,x-systemd.automount,OPTIONS 0 0",
        "mount -a\nfindmnt MNT || echo not yet\nmount MNT\nls MNT",
    )
    assert done.returncode == 0, done.stderr
    assert "not yet" in done.stdout
    assert done.stdout.splitlines()[-1] == "cmmd"


def test_what_cannot_be_mounted_is_told_and_fails(fstab: Fstab) -> None:
    done = fstab.run("brest MNT idcfs OPTIONS 0 0", "mount MNT || echo status $?")
    assert "no mount is called 'brest'; did you mean 'breast'?" in done.stderr
    assert "status 1" in done.stdout
    done = fstab.run("idc MNT idcfs index=/dev/null,OPTIONS 0 0", "mount MNT || echo status $?")
    assert "not an IDC index" in done.stderr
    assert "status 32" in done.stdout


def test_an_ordinary_user_mounts_and_unmounts(
    fstab: Fstab, user: User, replica: ServedReplica
) -> None:
    mountpoint, cache = user.new_directory("fstab-mnt"), user.new_directory("fstab-cache")
    clone = user.launcher.environment["PYTHONPATH"]
    sbin = user.directory / "sbin"
    write_program(sbin / "mount.idcfs", "idcfs.cli.mount_helper", user.launcher.python, clone)
    theirs = Fstab(
        user.directory, f"endpoint_url={replica.endpoint_url},cache_dir={cache}", fstab.config
    )
    as_user = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups env -u IDCFS_CONFIG"
    done = theirs.run(
        f"idc {mountpoint} idcfs noauto,user,collection_id=cmmd,OPTIONS 0 0",
        f"{as_user} HOME={user.directory / 'home'} mount {mountpoint}\n"
        f"{as_user} ls -l {mountpoint}\n"
        f"{as_user} umount {mountpoint}\nfindmnt {mountpoint} || echo gone",
    )
    assert done.returncode == 0, done.stderr
    assert "cmmd" in done.stdout
    assert done.stdout.splitlines()[-1] == "gone"
