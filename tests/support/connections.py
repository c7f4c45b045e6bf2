"""What the kernel tells of a mount's connection, and how root ends one that hangs."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DEATH_S = 15.0
"""A killed daemon is gone within milliseconds."""


class Connection:
    """The connection behind the FUSE mount that is at a path when it is asked."""

    def __init__(self, mountpoint: Path, control: Path) -> None:
        self._mountpoint = mountpoint
        self._control = control

    def waiting(self) -> int:
        """Return how many requests have no answer yet."""
        (place,) = self._places()
        return int((place / "waiting").read_text())

    def abort(self) -> None:
        """Fail all requests for good, so that a daemon can be killed that cannot be otherwise."""
        for place in self._places():
            (place / "abort").write_text("1\n")

    def _places(self) -> list[Path]:
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        found = [
            fields for line in table if (fields := line.split(" "))[4] == str(self._mountpoint)
        ]
        return [self._control / fields[2].partition(":")[2] for fields in found]


@contextmanager
def connection_of(mountpoint: Path) -> Iterator[Connection]:
    """Give the connection of a mount, also one that is yet to be made. Only for root."""
    with tempfile.TemporaryDirectory() as control:
        subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
        try:
            yield Connection(mountpoint, Path(control))
        finally:
            subprocess.run(["umount", "--lazy", control], check=True)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process that was killed is gone soon."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(DEATH_S)
    return process.poll() is not None
