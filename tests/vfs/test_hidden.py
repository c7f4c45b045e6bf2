"""The hidden directory, without a kernel."""

from __future__ import annotations

import io
import stat
from typing import BinaryIO

import pytest
import trio
import trio.testing

from idcfs.errors import IsADirectoryInTreeError, NoSuchEntryError, NotADirectoryInTreeError
from idcfs.model import Extent, Series, SeriesUUID
from idcfs.vfs.filesystem import Handle
from idcfs.vfs.hidden import HiddenDirectory
from idcfs.vfs.inodes import ROOT_INODE, Inode, inode_of_directory, inode_of_file
from idcfs.vfs.tree import DirectoryId
from tests.support.stores import Gate, in_trio
from tests.vfs.trees import OWNERSHIP, DictTree

SERIES = Series(SeriesUUID("a"), "bucket", 0, 1, 1)
DAEMON_UID = OWNERSHIP.uid + 1


def hidden(path: str = "x", content: BinaryIO | None = None) -> HiddenDirectory:
    async def make() -> BinaryIO:
        return content or io.BytesIO(b"hello")

    tree = DictTree({path: [SERIES]})
    return HiddenDirectory(
        {"file": make},
        tree=lambda: tree,
        ownership=OWNERSHIP,
        daemon_uid=DAEMON_UID,
        unlisted={"secret": make},
    )


def test_it_is_found_in_the_root_only() -> None:
    directory = hidden().find(ROOT_INODE, ".idcfs")
    assert directory is not None
    assert stat.S_ISDIR(directory.mode)
    assert hidden().find(ROOT_INODE, "x") is None
    assert hidden().find(Inode(7), ".idcfs") is None
    with pytest.raises(NoSuchEntryError):
        hidden().find(directory.inode, "other")


def test_a_directory_of_the_tree_with_its_name_wins() -> None:
    assert hidden(".idcfs/deeper").find(ROOT_INODE, ".idcfs") is None


def test_its_numbers_are_nobody_else_s() -> None:
    directory = hidden().find(ROOT_INODE, ".idcfs")
    assert directory is not None
    assert HiddenDirectory.owns(directory.inode)
    for number in (1, inode_of_directory(DirectoryId(2**40 - 1))):
        assert not HiddenDirectory.owns(number)
    for row, number in ((0, 0), (2**29, 0), (2**30 - 1, 2**32 - 1)):
        assert not HiddenDirectory.owns(inode_of_file(row, number))


def test_a_file_is_what_it_was_when_it_was_opened() -> None:
    async def read() -> list[bytes]:
        there = hidden()
        directory = there.find(ROOT_INODE, ".idcfs")
        assert directory is not None
        file = there.find(directory.inode, "file")
        assert file is not None
        assert stat.S_ISREG(file.mode)
        secret = there.find(directory.inode, "secret")
        assert secret is not None
        assert (stat.S_IMODE(secret.mode), secret.uid) == (0o400, DAEMON_UID)
        assert file.uid == directory.uid == OWNERSHIP.uid
        there.release(await there.open(secret.inode))
        with pytest.raises(IsADirectoryInTreeError):
            await there.open(directory.inode)
        with pytest.raises(NotADirectoryInTreeError):
            list(there.readdir(Handle(file.inode), 0))
        names = [name for name, _, _ in there.readdir(Handle(directory.inode), 0)]
        assert names == [".", "..", "file"]
        assert [name for name, _, _ in there.readdir(Handle(directory.inode), 2)] == ["file"]
        handle = await there.open(file.inode)
        extents = (Extent(0, 2), Extent(2, 100), Extent(5, 1))
        parts = [await there.read(handle, extent) for extent in extents]
        there.release(handle)
        return parts

    assert trio.run(read) == [b"he", b"llo", b""]


@in_trio
async def test_who_reads_at_once_does_not_move_another_s_position() -> None:
    gate = Gate()

    class Held(io.BytesIO):
        def read(self, length: int | None = -1, /) -> bytes:
            gate.hold()
            return super().read(length)

    there = hidden(content=Held(b"hello"))
    directory = there.find(ROOT_INODE, ".idcfs")
    assert directory is not None
    file = there.find(directory.inode, "file")
    assert file is not None
    handle = await there.open(file.inode)
    parts = {}

    async def read(offset: int) -> None:
        parts[offset] = await there.read(handle, Extent(offset, 1))

    async with trio.open_nursery() as nursery:
        for offset in range(5):
            nursery.start_soon(read, offset)
        await gate.arrived()
        await trio.testing.wait_all_tasks_blocked()
        threads = trio.to_thread.current_default_thread_limiter().borrowed_tokens
        gate.open()
    there.release(handle)
    assert threads == 1  # the others wait without one
    assert parts == {0: b"h", 1: b"e", 2: b"l", 3: b"l", 4: b"o"}
