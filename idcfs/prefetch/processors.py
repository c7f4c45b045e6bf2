"""How many processors this process may keep busy."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_OWN_GROUP: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")


def processor_count(own_group: Path = _OWN_GROUP, groups: Path = _GROUPS) -> int:
    """Return those that it may run on or, if it is given the time of fewer, so many.

    A container that is limited to one processor sees all of them. Its limit is that of its
    control group and of all above it (https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max).
    """
    count = len(os.sched_getaffinity(0))
    with suppress(OSError):
        for line in own_group.read_text(errors="surrogateescape").splitlines():
            if line.startswith("0::/"):  # of version 2, which has one hierarchy
                group = groups / line.removeprefix("0::/")
                for each in (group, *group.parents[: len(group.parts) - len(groups.parts)]):
                    count = min(count, _limit(each / "cpu.max") or count)
    return count


def _limit(path: Path) -> int | None:
    """Return how many processors' time a group is given, rounded up; None for no limit."""
    try:
        quota, period = map(int, path.read_text("ascii").split())
    except (OSError, ValueError):  # there is none at the root, and "max" is no number
        return None
    return max(math.ceil(quota / period), 1)
