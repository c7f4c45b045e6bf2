"""What a machine must have before anything can be mounted on it."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from idcfs.errors import MountError

_DEVICE = Path("/dev/fuse")
_FUSE_CONF = Path("/etc/fuse.conf")
_MOUNT_HELPERS = (Path("/sbin/mount.idcfs"), Path("/sbin/fs.d/mount.idcfs"))
"""Where mount(8) looks, and nowhere else."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and the command or step that mends it."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
    """Whether a mount cannot do without."""


def check_device() -> Finding:
    """Check that the kernel's FUSE device is there and may be opened."""
    subject = "FUSE device"
    in_container = "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
    try:
        os.close(os.open(_DEVICE, os.O_RDWR))
    except FileNotFoundError:
        remedy = f"load the kernel module with `sudo modprobe fuse`; {in_container}"
        return Finding(subject, False, f"{_DEVICE} does not exist", remedy)
    except OSError as exc:
        if exc.errno == errno.EACCES:
            remedy = f"sudo chmod 0666 {_DEVICE}"
        elif exc.errno == errno.EPERM:  # of the control group, whatever the file's mode says
            remedy = in_container
        else:  # the file is there, and no driver behind it
            remedy = "sudo modprobe fuse"
        detail = f"{_DEVICE} may not be opened by you: {exc.strerror}"
        return Finding(subject, False, detail, remedy)
    return Finding(subject, True, f"{_DEVICE} can be opened")


def check_fusermount() -> Finding:
    """Check that fusermount3 is installed: without it only root can mount."""
    subject = "fusermount3"
    path = shutil.which("fusermount3")
    if path is not None and (os.geteuid() == 0 or _runs_as_root(Path(path))):
        return Finding(subject, True, f"{path} is installed")
    if path is not None:  # one that conda brought, for example
        remedy = f"sudo chown root {shlex.quote(path)} && sudo chmod u+s {shlex.quote(path)}"
        return Finding(subject, False, f"{path} does not run as root", remedy)
    if os.geteuid() == 0:
        return Finding(subject, True, "not installed, and not needed by root")
    return Finding(subject, False, "not installed", "sudo apt install fuse3")


def _runs_as_root(program: Path) -> bool:
    status = program.stat()
    return status.st_uid == 0 and bool(status.st_mode & stat.S_ISUID)


def check_allow_other() -> Finding:
    """Check that this user may open a mount to other users."""
    subject = "allow_other"
    if os.geteuid() == 0 or "user_allow_other" in _fuse_conf_options():
        return Finding(subject, True, "mounts may be opened to other users")
    return Finding(
        subject,
        False,
        f"{_FUSE_CONF} does not permit it",
        f"echo user_allow_other | sudo tee -a {_FUSE_CONF}",
        needed=False,
    )


def check_mount_helper() -> Finding:
    """Check that mount(8) finds what a line of type `idcfs` in /etc/fstab needs."""
    subject = "mount helper"
    if any(path.exists() for path in _MOUNT_HELPERS):
        return Finding(subject, True, "/etc/fstab may have lines of type idcfs")
    program = Path(sys.executable).with_name("mount.idcfs")
    return Finding(
        subject,
        False,
        "mount.idcfs is not in /sbin, so /etc/fstab may not have lines of type idcfs",
        f"sudo ln -s {shlex.quote(str(program))} /sbin/mount.idcfs",
        needed=False,
    )


def _fuse_conf_options() -> set[str]:
    try:
        lines = _FUSE_CONF.read_text().splitlines()
    except OSError:
        return set()
    return {line.split("#")[0].strip() for line in lines}


def require(*findings: Finding) -> None:
    """Raise MountError for the first check that failed, with its remedy."""
    for finding in findings:
        if not finding.ok:
            raise MountError(f"{finding.subject}: {finding.detail}; {finding.remedy}")
