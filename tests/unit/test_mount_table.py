"""The kernel's mount table, with names that are hard to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from idcfs import mount_table
from idcfs.mount_table import Mounted, mounts

if TYPE_CHECKING:
    import pytest


def test_the_kernels_own_table_is_read() -> None:
    assert Path("/") in {each.mountpoint for each in mounts()}


def test_names_come_out_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    lines = [
        b"2 1 0:51 / /a\\040b\\134040 rw shared:3 master:1 - fuse.idcfs idcfs ro",
        b"3 1 8:1 / /a\\011\\012\\043 rw - ext4 /dev/sda rw",
        b"4 1 8:2 / /no\xc2\x85line\xe2\x80\xa8end\x0c\x1c\r\xff rw - xfs /dev/sdb rw",
    ]
    table.write_bytes(b"".join(line + b"\n" for line in lines))
    monkeypatch.setattr(mount_table, "_TABLE", table)
    assert mounts() == [
        Mounted(Path("/a b\\040"), "fuse.idcfs", 51),
        Mounted(Path("/a\t\n#"), "ext4", 1),
        Mounted(Path("/no\x85line\u2028end\x0c\x1c\r\udcff"), "xfs", 2),
    ]
