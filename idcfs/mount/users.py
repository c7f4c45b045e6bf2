"""Who uses a mount, so that it cannot be unmounted: told from /proc, without asking the mount."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def name_users(mountpoint: Path) -> str:
    """Name the processes that use anything below an absolute path, as far as we may see."""
    users = sorted(_users(mountpoint))
    if users:
        return ", ".join(
            f"{name} (process {number}{_advise(number, mountpoint)})" for number, name in users
        )
    if os.geteuid() == 0:
        return "the kernel, for a loop device or a mount below it"
    return "a process of another user, whose name only root sees"


def _advise(process: int, mountpoint: Path) -> str:
    """Return what to do first if it is the shell that this command was called from."""
    with suppress(OSError):
        if process == os.getppid() and _is_below(Path(f"/proc/{process}/cwd"), mountpoint):
            return ", your own shell: cd out of there"
    return ""


def _users(mountpoint: Path) -> Iterator[tuple[int, str]]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # ended meanwhile, or another user's
                if _uses(process, mountpoint):
                    yield int(process.name), (process / "comm").read_text().strip()


def _uses(process: Path, mountpoint: Path) -> bool:
    """Tell whether a process has its directory, its root, a file or a mapping there."""
    links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
    # readlink only: following the link would ask the mount itself.
    if any(_is_below(link, mountpoint) for link in links):
        return True
    mapped = (line.split(maxsplit=5)[5:] for line in (process / "maps").read_text().splitlines())
    return any(Path(path[0]).is_relative_to(mountpoint) for path in mapped if path)


def _is_below(link: Path, mountpoint: Path) -> bool:
    try:
        return Path(os.readlink(link)).is_relative_to(mountpoint)  # noqa: PTH115
    except FileNotFoundError:  # a file that was closed meanwhile says nothing of the others
        return False
