"""What the adapter leaves undone, and what it has the kernel remember."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pyfuse3
import pytest

from idcfs.fuse import Adapter
from idcfs.vfs.attributes import TTL_S
from idcfs.vfs.figures import RequestFigures
from idcfs.vfs.inodes import ROOT_INODE, Inode
from tests.support.stores import MemoryStore, in_trio, make_content, make_series
from tests.vfs.trees import DictTree, serving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@in_trio
async def test_the_kernel_is_told_not_to_ask_at_each_close() -> None:
    adapter = Adapter(Mock(), Mock(), Mock(), Mock())
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await adapter.flush(pyfuse3.FileHandleT(1))
    assert raised.value.errno == errno.ENOSYS


@pytest.mark.parametrize(
    ("expected", "ttl_s"),
    [
        # What the index says of two series that the store has two files of each.
        ([2, 2], TTL_S),
        ([2, None], TTL_S),
        ([3, 2], 0),
        ([3, None], 0),
        ([3, 1], 0),
        ([1, 2], 0),
    ],
)
def test_what_may_be_yet_to_come_is_not_remembered_as_missing(
    tmp_path: Path, expected: Sequence[int | None], ttl_s: float
) -> None:
    @in_trio
    async def run() -> None:
        store = MemoryStore()
        series = [make_series(number, count=count) for number, count in enumerate(expected)]
        for each in series:
            for name in ("a.dcm", "b.dcm"):
                store.add_content(make_content(100), f"{each.row}{name}", series=each.row)
        hidden = Mock(find=Mock(return_value=None))
        async with serving(DictTree({"x/y": series}), store, tmp_path) as fs:
            adapter = Adapter(fs, Mock(), hidden, RequestFigures())

            async def look_up(parent: int, name: bytes) -> tuple[int, float]:
                found = await adapter.lookup(
                    pyfuse3.InodeT(parent), pyfuse3.FileNameT(name), pyfuse3.RequestContext()
                )
                return found.st_ino, found.entry_timeout

            above, _ = await look_up(ROOT_INODE, b"x")
            leaf, _ = await look_up(above, b"y")
            for _ in range(2):
                assert await look_up(leaf, b"1c.dcm") == (0, ttl_s)
            assert await look_up(above, b"z") == (0, TTL_S)
            edition = fs.edition
            fs.show(DictTree({"x/y": series}))
            assert edition.absence_ttl_s(Inode(above)) == edition.absence_ttl_s(Inode(leaf)) == 0

    run()
