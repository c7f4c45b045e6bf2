"""What is said when fusermount3 does not do as it is told."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import MountError
from idcfs.mount import mountpoints
from idcfs.mount.mountpoints import unmount

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def fusermount3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program of a test's own in the place of fusermount3."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = tmp_path / "fusermount3"
    program.touch(mode=0o755)
    return program


def test_one_that_hangs_with_the_daemon_is_given_up(
    fusermount3: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As it does for an ordinary user, in a process that it starts."""
    monkeypatch.setattr(mountpoints, "_UNMOUNT_TIMEOUT_S", 1.0)
    fusermount3.write_text(f"#!/bin/sh\nsleep 1000 & echo $! > {tmp_path}/child; wait\n")
    with pytest.raises(MountError, match="its daemon hangs; end that with: pkill -KILL") as caught:
        unmount(tmp_path, lazy=True)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert f"idcfs umount --stale {tmp_path}" in str(caught.value)


def test_its_own_words_are_passed_on(fusermount3: Path, tmp_path: Path) -> None:
    fusermount3.write_text("#!/bin/sh\necho not your mount >&2\nexit 1\n")
    with pytest.raises(MountError, match=r"could not be unmounted: not your mount$"):
        unmount(tmp_path)
