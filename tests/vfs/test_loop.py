"""Nothing holds up the event loop, however wide a directory is."""

from __future__ import annotations

import gc
import itertools
import time
from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.fetch.collector import collect_rarely
from idcfs.model import Extent
from idcfs.vfs.inodes import ROOT_INODE
from tests.support.stores import MemoryStore, make_content, make_ref, make_series
from tests.vfs.trees import DictTree, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDEST = 91_980
"""Files of the widest series of IDC."""

LONGEST_S = 0.05
"""A request may hold up the others for so long."""


class Watchdog(trio.abc.Instrument):
    """Measures the processor time that each step of each task takes on the loop's thread."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began_s = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.longest_s = max(self.longest_s, time.thread_time() - self._began_s)


@pytest.fixture(autouse=True)
def as_in_a_mount() -> Iterator[None]:
    """Collect garbage as a mount does."""
    thresholds = gc.get_threshold()
    collect_rarely()
    yield
    gc.set_threshold(*thresholds)


def test_the_widest_series_is_listed_and_read_without_holding_up_others(tmp_path: Path) -> None:
    store, watchdog = MemoryStore(), Watchdog()
    content = make_content(100)
    for number in range(WIDEST):
        store.add(make_ref(content, f"{number * 46_692:08x}-wide.dcm"), content)

    async def use() -> None:
        tree = DictTree({"wide": [make_series(1, count=WIDEST)]})
        async with serving(tree, store, tmp_path) as fs:
            wide = await fs.lookup(ROOT_INODE, "wide")
            handle = await fs.opendir(wide.inode)
            names = [name for name, _, _ in itertools.islice(fs.readdir(handle, 0), 50)]
            fs.releasedir(handle)
            for name in names[2:]:
                found = await fs.lookup(wide.inode, name)
                file = await fs.open(found.inode)
                assert await fs.read(file, Extent(0, 100)) == content
                fs.release(file)

    trio.run(use, instruments=[watchdog])
    assert watchdog.longest_s < LONGEST_S
