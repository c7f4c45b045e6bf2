"""Mount points: which there are, whether one can be used, and how to let go of one."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.errors import MountError, UsageError
from idcfs.mount.question import Answer, ask
from idcfs.mount.users import name_users
from idcfs.mount_table import mounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.mount_table import Mounted

FILE_SYSTEM_TYPE = "fuse.idcfs"

_UNMOUNT_TIMEOUT_S = 30.0
"""`fusermount3 -u` answers at once unless the kernel waits for a daemon that hangs."""

_CONNECTIONS = Path("/sys/fs/fuse/connections")
"""Where fusectl lets who mounted it, and root, end a connection; see the kernel's fuse.rst."""

_PATIENCE_S = 10.0
"""A daemon that is only busy answers within a second."""

_BUSY_PAUSE_S = 0.2
"""Between two tries while somebody is busy: each starts fusermount3."""


def find_mount(mountpoint: Path) -> Mounted | None:
    """Return the topmost mount at exactly this absolute path, or None."""
    found = [each for each in mounts() if each.mountpoint == mountpoint]
    return found[-1] if found else None


def find_own(path: Path) -> Path:
    """Return the absolute path of a mount of ours. Raises MountError if there is none."""
    mountpoint = resolve(path)
    mounted = find_mount(mountpoint)
    if mounted is None:
        raise MountError(f"nothing is mounted at {path}")
    if mounted.type != FILE_SYSTEM_TYPE:
        raise MountError(f"what is mounted at {path} is not idcfs but {mounted.type}")
    return mountpoint


def keep_off_mounts(*directories: Path | None) -> None:
    """Refuse to write into a mount of our own, which is read-only and would read itself.

    The directories are absolute and need not exist. Raises UsageError.
    """
    ours = [each.mountpoint for each in mounts() if each.type == FILE_SYSTEM_TYPE]
    for directory in filter(None, directories):
        for mountpoint in ours:
            if resolve(directory).is_relative_to(mountpoint):
                raise UsageError(f"{directory} is inside the idcfs mount {mountpoint}")


def is_stale(mountpoint: Path) -> bool:
    """Tell whether the daemon behind a mount is gone. See first that it does not hang."""
    try:
        # Not stat: the kernel answers that from memory, for a day.
        os.statvfs(mountpoint)
    except OSError as exc:
        return exc.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


def hangs(mountpoint: Path) -> bool:
    """Tell whether the daemon behind a mount is there, but answers nobody."""
    return ask(mountpoint, _PATIENCE_S).answer is Answer.MISSING


def refuse_to_hang(mountpoint: Path) -> None:
    """Raise MountError if a mount of ours is there whose daemon hangs."""
    mounted = find_mount(mountpoint)
    if mounted is not None and mounted.type == FILE_SYSTEM_TYPE and hangs(mountpoint):
        raise MountError(
            f"idcfs is mounted at {mountpoint}, and its daemon hangs; end that with: "
            f"{how_to_end(mountpoint)}"
        )


def how_to_end(mountpoint: Path) -> str:
    """Return the commands that get rid of a mount whose daemon hangs."""
    mounted = find_mount(mountpoint)
    abort = _CONNECTIONS / str(mounted.device if mounted else 0) / "abort"
    if abort.exists():
        first = f"echo 1 > {abort}"
    else:  # not mounted, as in containers; and a mount by --name does not tell its place so
        first = f"pkill -KILL -f {shlex.quote(f'idcfs mount.*{mountpoint}')}"
    return f"{first} && idcfs umount --stale {shlex.quote(str(mountpoint))}"


def prepare_mountpoint(path: Path, *, allow_nonempty: bool = False) -> Path:
    """Return the absolute path of a directory that can be mounted on.

    A mount that a killed daemon left there is cleared away. Raises MountError, with
    what to do, for a path that is missing, no directory, in use or not empty.
    """
    try:
        mountpoint = resolve(path)
        refuse_to_hang(mountpoint)
        if is_stale(mountpoint):
            _clear_dead_mount(mountpoint)
        _check_directory(path, mountpoint, allow_nonempty)
    except OSError as exc:
        raise MountError(f"the mount point {path} cannot be used: {exc.strerror}") from exc
    return mountpoint


def _clear_dead_mount(mountpoint: Path) -> None:
    """Unmount a dead mount of ours; say how to clear another's, or one further up."""
    for directory in (mountpoint, *mountpoint.parents):
        mounted = find_mount(directory)
        if mounted is not None:
            break
    else:
        return
    if directory != mountpoint or mounted.type != FILE_SYSTEM_TYPE:
        raise MountError(
            f"{directory} is a dead mount ({mounted.type}: Transport endpoint is not connected); "
            f"clear it with: fusermount3 -uz {directory}"
        )
    unmount(mountpoint, lazy=True)


def _check_directory(path: Path, mountpoint: Path, allow_nonempty: bool) -> None:
    if (mounted := find_mount(mountpoint)) is not None and mounted.type == FILE_SYSTEM_TYPE:
        raise MountError(f"idcfs is already mounted at {path}; first: idcfs umount {path}")
    try:
        if not mountpoint.is_dir():
            if mountpoint.exists():
                raise MountError(f"the mount point {path} is not a directory")
            raise MountError(f"the mount point {path} does not exist; first: mkdir -p {path}")
        if not allow_nonempty and any(mountpoint.iterdir()):
            raise MountError(
                f"the mount point {path} is not empty; its files would be hidden: choose an "
                "empty directory, or say -o nonempty"
            )
    except PermissionError as exc:
        raise MountError(f"the mount point {path} cannot be read: {exc.strerror}") from exc
    if not os.access(mountpoint, os.W_OK):
        raise MountError(
            f"the mount point {path} is not writable by you, which fusermount3 asks for; "
            "choose a directory of your own"
        )


def resolve(path: Path) -> Path:
    """Return the absolute path with symbolic links followed.

    A mount point is not looked into: its daemon may be dead, or hang.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would ask a dead mount
    place = Path(os.path.realpath(absolute.parent)) / absolute.name
    if find_mount(place) is not None:
        return place
    return Path(os.path.realpath(absolute))  # which leaves a loop of links for `stat` to tell


def unmount(
    mountpoint: Path,
    *,
    lazy: bool = False,
    patience_s: float = 0.0,
    waiting: Callable[[str], None] = lambda users: None,
) -> None:
    """Unmount whatever is mounted at an absolute path.

    While somebody is busy there it is tried again for `patience_s`, and `waiting` is told
    once who that is. Raises MountError, naming who is busy there if that is the reason.
    """
    command = _unmount_command(mountpoint, lazy)
    deadline_s = time.monotonic() + patience_s
    told = False
    while not _try_unmount(command, mountpoint):
        if time.monotonic() >= deadline_s:
            raise MountError(
                f"{mountpoint} is in use by {name_users(mountpoint)}; close what is open there, "
                f"or detach it now with: idcfs umount --lazy {mountpoint}"
            )
        if not told:
            waiting(name_users(mountpoint))
            told = True
        time.sleep(_BUSY_PAUSE_S)


def _unmount_command(mountpoint: Path, lazy: bool) -> list[str]:
    tool = shutil.which("fusermount3")
    if tool is not None:
        return [tool, "-u", *(["-z"] if lazy else []), str(mountpoint)]
    if os.geteuid() == 0:
        return ["umount", *(["-l"] if lazy else []), str(mountpoint)]
    raise MountError("fusermount3 is missing; install it with: apt install fuse3")


def _try_unmount(command: list[str], mountpoint: Path) -> bool:
    """Tell whether it is unmounted; False if somebody is busy there. Raises MountError."""
    # Not into a pipe: what fusermount3 itself has started keeps that open when it is given up.
    with tempfile.TemporaryFile("w+", errors="replace") as told:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "LC_ALL": "C"},  # "busy" is looked for
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                check=False,
                timeout=_UNMOUNT_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as exc:
            raise MountError(
                f"unmounting {mountpoint} did not end within {_UNMOUNT_TIMEOUT_S:.0f} s: "
                f"its daemon hangs; end that with: {how_to_end(mountpoint)}"
            ) from exc
        told.seek(0)
        message = told.read().strip()
    if done.returncode and "busy" not in message.lower():
        mounted = find_mount(mountpoint)
        if mounted is not None and mounted.uid not in {None, os.geteuid()} and os.geteuid():
            raise MountError(f"{mountpoint} is another user's, who alone may unmount it, and root")
        raise MountError(f"{mountpoint} could not be unmounted: {message}")
    return done.returncode == 0
