"""The kernel's mount table: what is mounted where, for this process."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
"""Its fields are described in proc_pid_mountinfo(5)."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of the mount table."""

    mountpoint: Path
    type: str
    device: int = 0
    """The minor number of its device, by which the kernel knows a FUSE connection."""
    uid: int | None = None
    """Whose a FUSE mount is; None for mounts of other kinds."""


def mounts() -> list[Mounted]:
    """Return the mount table, oldest mount first. Raises OSError where there is no /proc."""
    table = []
    # Not as lines of text: what else may end one, such as CR, stands in names as it is.
    for line in os.fsdecode(_TABLE.read_bytes()).split("\n")[:-1]:
        fields = line.split(" ")
        kind, _, options = fields[fields.index("-") + 1 :][:3]
        device = int(fields[2].partition(":")[2])
        table.append(Mounted(Path(_unescape(fields[4])), kind, device, _owner(options)))
    return table


def _owner(options: str) -> int | None:
    found = re.search(r"(?:^|,)user_id=(\d+)", options)
    return int(found[1]) if found else None


def _unescape(field: str) -> str:
    """Undo how the kernel writes blanks, line ends and backslashes: in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
