"""What an ordinary user, who is not root, may do and sees."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.support.mounting import NOBODY, Launcher, Mount, User, mount_type, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.replica import ServedReplica


@pytest.fixture(scope="module")
def users_mount(user: User, replica: ServedReplica) -> Iterator[Mount]:
    """A mount of the user's own."""
    mount = Mount(
        user.new_directory("mnt"),
        "--patient-id=LIDC-IDRI-0957",
        endpoint_url=replica.endpoint_url,
        cache_dir=user.new_directory("cache"),
        launcher=user.launcher,
    )
    with mount:
        yield mount


def test_user_reads_the_objects_bytes(
    users_mount: Mount, user: User, replica: ServedReplica
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    copy = user.directory / "cache" / "copy"
    done = user.run("cp", "-r", str(users_mount.path / default_path(series)), str(copy))
    assert done.returncode == 0, done.stderr
    for each in replica.objects_of(series):
        assert (copy / each.name).read_bytes() == each.path.read_bytes()


def test_user_owns_the_files(users_mount: Mount, user: User) -> None:
    told = user.run("stat", "-c", "%u %g %A", str(users_mount.path / "lidc_idri"))
    expected = NOBODY if os.geteuid() == 0 else os.geteuid()
    assert told.stdout.split()[0] == str(expected)
    assert told.stdout.split()[2] == "dr-xr-xr-x"


def test_user_sees_extended_attributes(
    users_mount: Mount, user: User, replica: ServedReplica
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    told = user.run("getfattr", "-d", str(users_mount.path / default_path(series)))
    assert told.returncode == 0, told.stderr
    assert f'user.idc.series_uuid="{series.uuid}"' in told.stdout.splitlines()
    assert 'user.idc.license="CC BY 3.0"' in told.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user, here root")
def test_nobody_else_gets_in_without_allow_other(users_mount: Mount) -> None:
    with pytest.raises(PermissionError):
        os.listdir(users_mount.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user, here root")
def test_what_belongs_to_others_is_no_failure_unless_it_is_asked_for(users_mount: Mount) -> None:
    path = str(users_mount.path)
    # Other tests' mounts may be coming and going.
    told = json.loads(Launcher().run("status", "--json").stdout)
    assert path not in [each["mountpoint"] for each in told]
    done = Launcher().run("status", path)
    assert done.returncode == 1
    assert done.stdout == f"{path}: it is another user's, who has not let others in\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user, here root")
def test_user_is_told_whose_a_mount_is_that_cannot_be_unmounted(
    user: User, replica: ServedReplica, layouts: Path
) -> None:
    path = user.new_directory("roots-mount")
    arguments = ("--allow-other", "--patient-id=LIDC-IDRI-0957")
    with Mount(path, *arguments, endpoint_url=replica.endpoint_url, cache_dir=layouts):
        done = user.launcher.run("umount", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"idcfs: {path} is another user's, who alone may unmount it, and root\n"


def test_user_mounts_in_the_background_and_unmounts(user: User, replica: ServedReplica) -> None:
    mountpoint = user.new_directory("background")
    done = user.launcher.run(
        "mount",
        f"--endpoint-url={replica.endpoint_url}",
        f"--cache-dir={user.directory / 'cache'}",
        "--collection-id=lidc_idri",
        str(mountpoint),
    )
    assert done.returncode == 0, done.stderr
    assert "mounted IDC v" in done.stdout
    assert user.run("ls", str(mountpoint)).stdout == "lidc_idri\n"
    done = user.launcher.run("umount", str(mountpoint))
    assert done.returncode == 0, done.stderr
    assert mount_type(mountpoint) is None
    wait_until(lambda: not _daemons_of(mountpoint), "the daemon ends")


def test_user_mounts_again_where_a_daemon_was_killed(user: User, replica: ServedReplica) -> None:
    def make() -> Mount:
        return Mount(
            mountpoint,
            "--patient-id=LIDC-IDRI-0957",
            endpoint_url=replica.endpoint_url,
            cache_dir=user.directory / "cache",
            launcher=user.launcher,
        )

    mountpoint = user.new_directory("killed")
    killed = make()
    killed.start()
    killed.process.kill()
    killed.process.wait()
    assert user.run("ls", str(mountpoint)).returncode == 2
    with make():
        # Root, whom a user's mount keeps out, cannot tell a dead one from the next.
        wait_until(
            lambda: user.run("ls", str(mountpoint)).stdout == "lidc_idri\n", "it answers again"
        )


def _daemons_of(mountpoint: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(mountpoint) in command:
            found.append(process.name)
    return found


def test_user_who_may_not_write_the_mount_point_is_told(user: User, replica: ServedReplica) -> None:
    directory = user.directory / "roots"
    directory.mkdir()
    directory.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    done = user.launcher.run("mount", f"--endpoint-url={replica.endpoint_url}", str(directory))
    assert done.returncode == 1
    assert "is not writable by you" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may close the device")
def test_user_without_the_device_is_told_the_command(user: User, replica: ServedReplica) -> None:
    # Closed for these commands only: other workers mount as users meanwhile.
    closed = user.directory / "closed-device"
    status = Path("/dev/fuse").stat()
    os.mknod(closed, stat.S_IFCHR | 0o600, status.st_rdev)
    hidden = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /dev/fuse && exec "$@"')
    launcher = dataclasses.replace(
        user.launcher, prefix=(*hidden, str(closed), *user.launcher.prefix)
    )
    mountpoint = user.new_directory("no-device")
    done = launcher.run("mount", f"--endpoint-url={replica.endpoint_url}", str(mountpoint))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "sudo chmod 0666 /dev/fuse" in done.stderr
    checked = launcher.run("doctor", f"--endpoint-url={replica.endpoint_url}")
    assert checked.returncode == 1
    assert "FAIL  FUSE device" in checked.stdout


def test_user_without_fusermount3_is_told_the_command(user: User, replica: ServedReplica) -> None:
    mountpoint = user.new_directory("no-fusermount3")
    done = user.run(
        "env",
        *(f"{k}={v}" for k, v in user.launcher.environment.items()),
        "PATH=/nowhere",
        user.launcher.python,
        "-m",
        "idcfs",
        "mount",
        f"--endpoint-url={replica.endpoint_url}",
        str(mountpoint),
    )
    assert done.returncode == 1
    assert "apt install fuse3" in done.stderr


def test_allow_other_is_refused_where_the_system_does_not_permit_it(
    user: User, replica: ServedReplica
) -> None:
    conf = Path("/etc/fuse.conf").read_text() if Path("/etc/fuse.conf").exists() else ""
    if any(line.strip() == "user_allow_other" for line in conf.splitlines()):
        pytest.skip("this system permits it")
    mountpoint = user.new_directory("others")
    done = user.launcher.run(
        "mount", "--allow-other", f"--endpoint-url={replica.endpoint_url}", str(mountpoint)
    )
    assert done.returncode == 1
    assert "user_allow_other" in done.stderr
