"""Extended attributes without FUSE: rows from a dictionary, a cache on disk."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from trio.testing import MockClock

from idcfs.errors import IndexFileError, NoSuchAttributeError
from idcfs.model import Extent
from idcfs.vfs.extended import COLUMNS, ExtendedAttributes
from idcfs.vfs.presence import CachePresence
from tests.support.stores import MemoryStore, in_trio
from tests.vfs.test_filesystem import CT, LEAVES, MR, PT, fill, find, read_file
from tests.vfs.trees import DictTree, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import pytest

    from idcfs.model import Series
    from idcfs.vfs.filesystem import FileSystem

OURS = {"user.idc.series_uuid", "user.idc.s3_url", "user.idc.cached"}
COMMON = [
    frozenset(),
    frozenset({"collection_id"}),
    frozenset({"collection_id", "PatientID"}),
    frozenset(COLUMNS.values()),
]
"""What directories of each level have in common in `LEAVES`."""


class Facts:
    """`SeriesFacts` of the three series, that counts what is asked of it and fails as told."""

    def __init__(self) -> None:
        self.rows = {each.row: self.columns_of(each) for each in (CT, MR, PT)}
        self.asked: list[range] = []
        self.failure: IndexFileError | None = None

    @staticmethod
    def columns_of(series: Series) -> Mapping[str, str]:
        return {
            "crdc_series_uuid": series.uuid,
            "collection_id": "c2" if series is PT else "c1",
            "license_short_name": "CC BY 4.0",
            "Manufacturer": f"maker {series.row}",
        }

    def facts(self, rows: range) -> Mapping[int, Mapping[str, str]]:
        self.asked.append(rows)
        if self.failure is not None:
            raise self.failure
        return {row: columns for row, columns in self.rows.items() if row in rows}


class Explored:
    """A file system and its extended attributes, by path."""

    def __init__(self, fs: FileSystem, extended: ExtendedAttributes) -> None:
        self.fs = fs
        self._extended = extended

    async def names(self, path: str) -> set[str]:
        return set(await self._extended.names((await find(self.fs, path)).inode))

    async def get(self, path: str, name: str) -> str | None:
        try:
            return await self._extended.get((await find(self.fs, path)).inode, name)
        except NoSuchAttributeError:
            return None


@asynccontextmanager
async def exploring(root: Path, facts: Facts) -> AsyncIterator[Explored]:
    store = MemoryStore()
    for series in (CT, MR, PT):
        fill(store, series)
    tree = DictTree(LEAVES)
    async with serving(tree, store, root) as fs:
        yield Explored(
            fs,
            ExtendedAttributes(
                file_system=fs,
                facts=facts,
                presence=CachePresence(root),
                common={"": COMMON},
            ),
        )


@in_trio
async def test_files_and_directories_tell_the_columns_of_their_series(tmp_path: Path) -> None:
    async with exploring(tmp_path, Facts()) as explored:
        for path in ("c1/p1/CT/1a.dcm", "c1/p1/CT"):
            assert await explored.names(path) > OURS
            assert await explored.get(path, "user.idc.license") == "CC BY 4.0"
            assert await explored.get(path, "user.dicom.Manufacturer") == "maker 1"
            assert await explored.get(path, "user.dicom.StudyDate") == ""  # the index has none
            assert await explored.get(path, "user.idc.nothing") is None
        assert await explored.get("c1/p1/CT", "user.idc.s3_url") == f"s3://{CT.bucket}/{CT.uuid}/*"
        assert await explored.get("c2", "user.idc.collection_id") == "c2"
        assert await explored.get("c2", "user.idc.cached") is None


@in_trio
async def test_neighbours_are_asked_for_at_once(tmp_path: Path) -> None:
    facts = Facts()
    async with exploring(tmp_path, facts) as explored, trio.open_nursery() as nursery:
        for path in ("c1", "c1/p1/CT", "c1/p1/MR/2a.dcm", "c2/p2/PT/3a.dcm"):
            nursery.start_soon(explored.get, path, "user.idc.collection_id")
    assert facts.asked == [range(512)]


def test_an_index_that_cannot_be_read_costs_what_it_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        facts = Facts()
        facts.failure = IndexFileError("it is gone")
        async with exploring(tmp_path, facts) as explored:
            for _ in range(3):
                assert await explored.get("c1/p1/CT/1a.dcm", "user.idc.license") is None
                assert await explored.names("c1/p1/CT/1b.dcm") == OURS
                assert await explored.names("c1/p1/CT") == OURS
                assert await explored.names("c1") == set()
            assert await explored.get("c1/p1/CT", "user.idc.series_uuid") == CT.uuid
            assert len(facts.asked) == 1
            clock.jump(31)
            assert await explored.get("c1/p1/CT", "user.idc.license") is None
            assert len(facts.asked) == 2
            facts.failure = None
            clock.jump(31)
            assert await explored.get("c1/p1/CT", "user.idc.license") == "CC BY 4.0"
            assert await explored.names("c1") == {"user.idc.collection_id"}
        messages = [record.message for record in caplog.records]
        assert messages == ["it is gone: extended attributes tell less"]

    clock = MockClock(rate=1.0)
    trio.run(run, clock=clock)


@in_trio
async def test_rows_of_another_index_are_not_told(tmp_path: Path) -> None:
    facts = Facts()
    facts.rows[CT.row] = facts.columns_of(MR)
    del facts.rows[MR.row]
    async with exploring(tmp_path, facts) as explored:
        assert await explored.get("c1/p1/CT", "user.idc.license") is None
        assert await explored.get("c1/p1/MR/2a.dcm", "user.idc.license") is None


@in_trio
async def test_cached_says_how_much_is_there(tmp_path: Path) -> None:
    async with exploring(tmp_path, Facts()) as explored:

        async def cached(path: str) -> str | None:
            return await explored.get(path, "user.idc.cached")

        assert await cached("c1/p1/MR/2a.dcm") == "no"
        file = await find(explored.fs, "c1/p1/MR/2a.dcm")
        await read_file(explored.fs, file.inode, Extent(0, 10_000))
        assert await cached("c1/p1/MR/2a.dcm") == "yes"
        assert await cached("c1/p1/MR") == "yes"
        assert await cached("c1/p1/CT") == "no"
        part = tmp_path / "partial" / CT.uuid[:2] / CT.uuid / "1b.dcm"
        part.parent.mkdir(parents=True)
        part.touch()
        assert await cached("c1/p1/CT/1b.dcm") == "partly"
        assert await cached("c1/p1/CT/1a.dcm") == "no"
        assert await cached("c1/p1/CT") == "partly"
        whole = tmp_path / "objects" / MR.uuid[:2] / MR.uuid / "2a.dcm"
        whole.write_bytes(b"another size")
        assert await cached("c1/p1/MR/2a.dcm") == "no"
