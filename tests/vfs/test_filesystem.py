"""The file system without FUSE: a tree of dictionaries, a store in memory."""

from __future__ import annotations

import stat
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from idcfs.errors import (
    AccessDeniedError,
    DirectoryTooWideError,
    IdcfsError,
    IsADirectoryInTreeError,
    NoSuchEntryError,
    NotADirectoryInTreeError,
    StoreUnavailableError,
)
from idcfs.model import ROOT, DirectoryId, Extent, Series, TreeTotals
from idcfs.vfs import edition, leaves
from idcfs.vfs.filesystem import FileSystem, Handle
from idcfs.vfs.inodes import ROOT_INODE, Inode
from tests.support.stores import MTIME_NS, Gate, MemoryStore, in_trio, make_content, make_series
from tests.vfs.trees import DictTree, serving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from idcfs.vfs.attributes import Attributes

CT, MR, PT = make_series(1, count=3), make_series(2, count=1), make_series(3, count=2)
LEAVES = {"c1/p1/CT": [CT], "c1/p1/MR": [MR], "c2/p2/PT": [PT]}


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for series in (CT, MR, PT):
        fill(store, series)
    return store


def fill(store: MemoryStore, series: Series, names: Sequence[str] | None = None) -> None:
    if names is None:
        names = [f"{series.row}{letter}.dcm" for letter in "abc"[: series.instance_count]]
    for name in names:
        store.add_content(content_of(series, name), name, series=series.row)


def content_of(series: Series, name: str) -> bytes:
    return make_content(1000 + len(name), seed=series.row)


async def find(fs: FileSystem, path: str) -> Attributes:
    """Look a path up, entry by entry."""
    attributes = await fs.getattr(ROOT_INODE)
    for name in path.split("/") if path else []:
        attributes = await fs.lookup(attributes.inode, name)
    return attributes


async def list_directory(fs: FileSystem, path: str) -> dict[str, Attributes]:
    """Return the entries of a directory but `.` and `..`."""
    handle = await fs.opendir((await find(fs, path)).inode)
    entries = {name: attributes for name, attributes, _ in fs.readdir(handle, 0)}
    fs.releasedir(handle)
    return {name: entries[name] for name in entries if name not in {".", ".."}}


async def read_file(fs: FileSystem, inode: Inode, extent: Extent) -> bytes:
    handle = await fs.open(inode)
    try:
        return bytes(await fs.read(handle, extent))
    finally:
        fs.release(handle)


async def walk(fs: FileSystem, path: str = "") -> dict[str, Attributes]:
    found = {}
    for name, attributes in (await list_directory(fs, path)).items():
        below = f"{path}/{name}" if path else name
        found[below] = attributes
        if attributes.is_directory:
            found |= await walk(fs, below)
    return found


@in_trio
async def test_a_walk_finds_everything_in_order(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        assert list(await list_directory(fs, "")) == ["c1", "c2"]
        assert list(await list_directory(fs, "c1/p1")) == ["CT", "MR"]
        found = await walk(fs)
    assert [path for path, each in found.items() if not each.is_directory] == [
        "c1/p1/CT/1a.dcm",
        "c1/p1/CT/1b.dcm",
        "c1/p1/CT/1c.dcm",
        "c1/p1/MR/2a.dcm",
        "c2/p2/PT/3a.dcm",
        "c2/p2/PT/3b.dcm",
    ]
    assert len({each.inode for each in found.values()}) == len(found)
    assert sorted(store.lists) == sorted(series.prefix for series in (CT, MR, PT))


@in_trio
async def test_attributes_tell_what_a_user_expects(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        root, above = await find(fs, ""), await find(fs, "c1/p1")
        leaf, file = await find(fs, "c1/p1/CT"), await find(fs, "c1/p1/CT/1a.dcm")
        totals = fs.statfs()
    assert root.inode == ROOT_INODE
    assert (root.mode, root.nlink) == (stat.S_IFDIR | 0o555, 4)
    assert (above.nlink, leaf.nlink, file.nlink) == (4, 2, 1)
    assert (file.mode, file.size_bytes, file.mtime_ns) == (stat.S_IFREG | 0o444, 1006, MTIME_NS)
    assert file.blocks == 2
    assert {(each.uid, each.gid) for each in (root, above, leaf, file)} == {(1234, 567)}
    assert leaf.mtime_ns == DictTree(LEAVES).mtime_ns
    assert (totals.fragments, totals.files) == (3, 6)


@in_trio
async def test_all_ways_to_an_inode_tell_the_same(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        for path, attributes in (await walk(fs)).items():
            assert await find(fs, path) == attributes
            assert await fs.getattr(attributes.inode) == attributes


@in_trio
async def test_inodes_are_the_same_at_every_mount(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        found = await walk(fs)
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        # By number alone, before anything was looked up or listed.
        for attributes in found.values():
            assert await fs.getattr(attributes.inode) == attributes
        assert await walk(fs) == found
    selection = DictTree({"c1/p1/MR": [MR]}, everything=LEAVES)
    async with serving(selection, store, tmp_path) as fs:
        narrowed = {path: each.inode for path, each in (await walk(fs)).items()}
    assert list(narrowed) == ["c1", "c1/p1", "c1/p1/MR", "c1/p1/MR/2a.dcm"]
    assert narrowed == {path: found[path].inode for path in narrowed}


@in_trio
async def test_a_file_has_the_same_inode_under_every_template(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        found = {path.split("/")[-1]: each for path, each in (await walk(fs)).items()}
    for other in ({"": [CT, MR, PT]}, {"x": [PT, CT], "y/z": [MR]}):
        async with serving(DictTree(other), store, tmp_path) as fs:
            files = {path.split("/")[-1]: each for path, each in (await walk(fs)).items()}
        assert {name: each.inode for name, each in files.items() if name.endswith(".dcm")} == {
            name: each.inode for name, each in found.items() if name.endswith(".dcm")
        }


@in_trio
async def test_a_file_outside_of_the_selection_has_no_inode(
    store: MemoryStore, tmp_path: Path
) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        outside = await find(fs, "c1/p1/CT/1a.dcm")
        outside_directory = await find(fs, "c1/p1/CT")
    async with serving(DictTree({"c1/p1/MR": [MR]}, LEAVES), store, tmp_path) as fs:
        for inode in (outside.inode, outside_directory.inode):
            with pytest.raises(NoSuchEntryError):
                await fs.getattr(inode)
        with pytest.raises(NoSuchEntryError):
            await fs.open(outside.inode)


@in_trio
async def test_files_are_read_as_they_are_in_the_store(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        for path, attributes in (await walk(fs)).items():
            if not attributes.is_directory:
                content = store.objects[next(k for k in store.objects if k.endswith(path[-6:]))]
                for start, end in [(0, 2000), (0, 10), (999, 1010), (1006, 10), (5000, 1)]:
                    got = await read_file(fs, attributes.inode, Extent(start, end))
                    assert got == content[start : start + end]
    assert len(store.gets) == 6


@in_trio
async def test_errors_have_their_types(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        file, directory = await find(fs, "c1/p1/CT/1a.dcm"), await find(fs, "c1")
        with pytest.raises(NotADirectoryInTreeError):
            await fs.lookup(file.inode, "x")
        with pytest.raises(NotADirectoryInTreeError):
            await fs.opendir(file.inode)
        with pytest.raises(IsADirectoryInTreeError):
            await fs.open(directory.inode)
        before = fs.lookup_count
        for parent, name in [("c1", "x"), ("c1/p1/CT", "x.dcm"), ("", "\udc80")]:
            attributes = await find(fs, parent)
            with pytest.raises(NoSuchEntryError):
                await fs.lookup(attributes.inode, name)
        assert fs.lookup_count == before + 1 + 3  # what `find` looked up


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.integers(-(2**64), 2**64),
        st.builds(lambda row, n: 1 << 62 | row << 32 | n, st.integers(0, 5), st.integers(0, 9)),
        st.integers(-1, 20),
    )
)
@example(0)
@example(-1)
@example(2**64 - 1)
def test_any_number_as_an_inode_is_answered_or_refused(
    store: MemoryStore, tmp_path: Path, number: int
) -> None:
    @in_trio
    async def run() -> None:
        async with serving(DictTree(LEAVES), store, tmp_path) as fs:
            known = {ROOT_INODE, *(each.inode for each in (await walk(fs)).values())}
            inode = Inode(number)
            try:
                assert (await fs.getattr(inode)).inode == inode
                assert inode in known
            except NoSuchEntryError:
                assert inode not in known
            before = fs.lookup_count
            for ask in (fs.opendir(inode), fs.open(inode), fs.lookup(inode, "x")):
                try:
                    assert await ask in (1, 2, 3, 4, *range(100))
                    assert inode in known
                except IdcfsError:
                    pass
            assert fs.lookup_count == before

    run()


@in_trio
async def test_lookups_are_counted_and_taken_back(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        for _ in range(3):
            await find(fs, "c1/p1/CT/1a.dcm")
        assert fs.lookup_count == 12
        await walk(fs)
        assert fs.lookup_count == 12 + sum([1, 2, 3, 3, 1, 2, 3])  # the depths of all directories
        fs.forget(fs.lookup_count - 1)
        assert fs.lookup_count == 1


@in_trio
async def test_a_snapshot_can_be_read_from_any_position(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        for path, above in [("c1/p1/CT", "c1/p1"), ("c1", ""), ("", "")]:
            handle = await fs.opendir((await find(fs, path)).inode)
            every = list(fs.readdir(handle, 0))
            assert [name for name, _, _ in every[:2]] == [".", ".."]
            assert every[0][1] == await find(fs, path)
            assert every[1][1] == await find(fs, above)
            positions = [0, *(position for _, _, position in every)]
            assert positions == sorted(set(positions))
            for number in [*reversed(range(len(positions))), *range(len(positions))]:
                assert list(fs.readdir(handle, positions[number])) == every[number:]
            assert list(fs.readdir(handle, positions[-1] + 1000)) == []
            fs.releasedir(handle)
        with pytest.raises(KeyError):
            fs.readdir(handle, 0)


def test_an_open_directory_does_not_change_while_the_series_does(
    store: MemoryStore, tmp_path: Path
) -> None:
    async def run() -> None:
        del store.objects[f"{CT.prefix}1c.dcm"]
        async with serving(DictTree(LEAVES), store, tmp_path) as fs:
            directory = await find(fs, "c1/p1/CT")
            handle = await fs.opendir(directory.inode)
            before = list(fs.readdir(handle, 0))
            fill(store, CT)
            clock.jump(1000)
            assert list(await list_directory(fs, "c1/p1/CT")) == ["1a.dcm", "1b.dcm", "1c.dcm"]
            assert list(fs.readdir(handle, 0)) == before
            assert len(before) == 4
            # The number of a file does not depend on which others are there.
            for _, attributes, _ in before[2:]:
                assert await fs.getattr(attributes.inode) == attributes

    clock = MockClock(rate=1.0)
    trio.run(run, clock=clock)


def test_a_number_names_what_the_store_lists_now(store: MemoryStore, tmp_path: Path) -> None:
    async def run() -> None:
        gone = f"{CT.prefix}1b.dcm"
        content = store.objects.pop(gone)
        async with serving(DictTree(LEAVES), store, tmp_path) as fs:
            former = await find(fs, "c1/p1/CT/1c.dcm")
            del store.objects[f"{CT.prefix}1c.dcm"]
            store.objects[gone] = content
            clock.jump(1000)
            present = await find(fs, "c1/p1/CT/1b.dcm")
            assert await fs.getattr(present.inode) == present
            with pytest.raises(NoSuchEntryError):
                await fs.getattr(former.inode)

    clock = MockClock(rate=1.0)
    trio.run(run, clock=clock)


@in_trio
async def test_a_leaf_that_is_not_as_the_index_says_is_merged_once(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Look-ups of all its entries would take time by the square otherwise."""
    merges = []

    def merge(numbered: object) -> dict[str, leaves.File]:
        merges.append(numbered)
        return leaves.merge_files(numbered)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(edition, "merge_files", merge)
    for series in (make_series(1, count=2), make_series(1, count=4)):
        merges.clear()
        async with serving(DictTree({"x": [series]}), store, tmp_path) as fs:
            for _ in range(3):
                for name in await list_directory(fs, "x"):
                    await find(fs, f"x/{name}")
        assert len(merges) == 1


@in_trio
async def test_series_of_one_directory_show_their_union(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree({"all": [PT, CT, MR]}), store, tmp_path) as fs:
        listed = await list_directory(fs, "all")
        assert list(listed) == ["1a.dcm", "1b.dcm", "1c.dcm", "2a.dcm", "3a.dcm", "3b.dcm"]
        for name, attributes in listed.items():
            assert await find(fs, f"all/{name}") == attributes


@in_trio
async def test_equal_names_keep_both_files(tmp_path: Path) -> None:
    store = MemoryStore()
    several = [make_series(number, count=None) for number in (1, 2, 3)]
    first, second, third = sorted(several, key=lambda each: each.uuid)
    long = "x" * 251 + ".dcm"
    for series in several:
        fill(store, series, ["same.dcm", long, ".hidden", f"u{series.row}.dcm"])
    # Taken already by a file that is really called so.
    fill(store, first, [f"same~{second.uuid}.dcm"])
    async with serving(DictTree({"all": several}), store, tmp_path) as fs:
        listed = await list_directory(fs, "all")
        assert len(listed) == 13
        assert list(listed) == sorted(listed, key=str.encode)
        assert all(len(name.encode()) <= 255 for name in listed)
        assert len({each.inode for each in listed.values()}) == 13
        assert {"same.dcm", f"same~{second.uuid}~2.dcm", f"same~{third.uuid}.dcm"} <= {*listed}
        for name, series in [
            ("same.dcm", first),
            (f"same~{second.uuid}~2.dcm", second),
            (f"same~{third.uuid}.dcm", third),
        ]:
            attributes = await find(fs, f"all/{name}")
            got = await read_file(fs, attributes.inode, Extent(0, 5000))
            assert got == content_of(series, "same.dcm")


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("error", [StoreUnavailableError("no"), AccessDeniedError("no")])
def test_an_error_of_one_series_comes_out_as_it_is(
    store: MemoryStore, tmp_path: Path, error: IdcfsError, several: bool
) -> None:
    def refuse(prefix: str) -> None:
        if prefix == PT.prefix:
            raise error

    @in_trio
    async def run() -> None:
        store.on_list = refuse
        others = [make_series(number, count=1) for number in range(10, 60)] if several else []
        for each in others:
            fill(store, each)
        async with serving(DictTree({"all": [PT, *others]}), store, tmp_path) as fs:
            directory = await find(fs, "all")
            for _ in range(2):
                with pytest.raises(type(error)):
                    await fs.opendir(directory.inode)
            store.on_list = lambda prefix: None
            assert len(await list_directory(fs, "all")) == 2 + len(others)

    run()


@in_trio
async def test_a_leaf_too_wide_is_refused_without_asking(
    store: MemoryStore, tmp_path: Path
) -> None:
    wide = [make_series(number, count=100_000) for number in range(6)]
    async with serving(DictTree({"wide": wide, "ok": [CT]}), store, tmp_path) as fs:
        directory = await find(fs, "wide")
        with pytest.raises(DirectoryTooWideError, match=r"/wide would hold 600,000 files of 6"):
            await fs.opendir(directory.inode)
        with pytest.raises(DirectoryTooWideError):
            await fs.lookup(directory.inode, "x")
        assert len(await list_directory(fs, "ok")) == 3
    assert store.lists == [CT.prefix]


@in_trio
async def test_a_leaf_that_turns_out_too_wide_is_refused(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edition, "DIRECTORY_LIMIT_FILES", 2)
    unknown = make_series(1, count=None)
    async with serving(DictTree({"x": [unknown]}), store, tmp_path) as fs:
        directory = await find(fs, "x")
        with pytest.raises(DirectoryTooWideError, match="3 files of 1 series"):
            await fs.opendir(directory.inode)


@in_trio
async def test_handles_are_apart_and_let_go(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        inode = (await find(fs, "c1/p1/CT/1a.dcm")).inode
        first, second = await fs.open(inode), await fs.open(inode)
        directory = await fs.opendir(ROOT_INODE)
        assert len({first, second, directory}) == 3
        fs.release(first)
        assert await fs.read(second, Extent(0, 4)) == content_of(CT, "1a.dcm")[:4]
        fs.release(second)
        fs.releasedir(directory)
        for handle in (first, second, Handle(99)):
            with pytest.raises(KeyError):
                await fs.read(handle, Extent(0, 1))


class WideTree:
    """200,000 directories of one series each, made as they are asked for."""

    count = 200_000
    mtime_ns = 0
    totals = TreeTotals(count, count, 0)

    def contains(self, directory: DirectoryId) -> bool:
        return 0 <= directory <= self.count

    def get_parent(self, directory: DirectoryId) -> DirectoryId:
        return ROOT

    def get_path(self, directory: DirectoryId) -> str:
        return "" if directory == ROOT else f"{directory:06}"

    def is_leaf(self, directory: DirectoryId) -> bool:
        return directory != ROOT

    def count_children(self, directory: DirectoryId) -> int:
        return self.count if directory == ROOT else 0

    def children(self, directory: DirectoryId) -> Sequence[tuple[str, DirectoryId]]:
        return [(f"{n:06}", DirectoryId(n)) for n in range(1, self.count + 1)]

    def find_child(self, directory: DirectoryId, name: str) -> DirectoryId | None:
        return DirectoryId(int(name))


@in_trio
async def test_a_walk_over_many_directories_leaves_nothing(tmp_path: Path) -> None:
    async with serving(WideTree(), MemoryStore(), tmp_path) as fs:
        tracemalloc.start()
        try:
            handle = await fs.opendir(ROOT_INODE)
            seen = sum(1 for _ in fs.readdir(handle, 0))
            fs.releasedir(handle)
            for number in range(1, WideTree.count, 20):
                await fs.lookup(ROOT_INODE, f"{number:06}")
                await fs.getattr(Inode(number + 1))
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert seen == WideTree.count + 2
    assert fs.lookup_count == WideTree.count // 20
    assert kept < 200_000


@in_trio
async def test_what_is_kept_of_listings_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edition, "DIRECTORY_LIMIT_FILES", 50)
    monkeypatch.setattr(edition, "_NUMBERED_FILES", 50)
    store = MemoryStore()
    many = [make_series(number, count=1) for number in range(1, 301)]
    for series in many:
        fill(store, series)
    tree = DictTree({f"{each.row:03}": [each] for each in many})
    async with serving(tree, store, tmp_path) as fs:
        assert len(await walk(fs)) == 600
        assert len(fs.edition._leaves) + len(fs.edition._numbered) <= 75
        assert fs._open_directories == {}


@in_trio
async def test_another_tree_is_shown_and_what_is_open_goes_on(
    store: MemoryStore, tmp_path: Path
) -> None:
    everything = list(LEAVES)
    async with serving(DictTree(LEAVES, everything), store, tmp_path) as fs:
        going, staying = await find(fs, "c1/p1/CT/1a.dcm"), await find(fs, "c1/p1/MR/2a.dcm")
        above = (await find(fs, "c1/p1")).inode
        held, listed = await fs.open(going.inode), await fs.opendir(above)
        assert going.ttl_s > 0
        rest = {path: series for path, series in LEAVES.items() if not path.endswith("CT")}
        fs.show(DictTree(rest, everything))
        with pytest.raises(NoSuchEntryError):
            await find(fs, "c1/p1/CT")
        assert await find(fs, "c1/p1/MR/2a.dcm") == staying
        # What is open can be read and asked about; what only was looked up is gone.
        assert await fs.read(held, Extent(0, 10)) == content_of(CT, "1a.dcm")[:10]
        assert (await fs.getattr(going.inode)).size_bytes == going.size_bytes
        assert [file.inode for file in fs.open_files()] == [going.inode]
        fs.release(held)
        with pytest.raises(NoSuchEntryError):
            await fs.getattr(going.inode)
        # A directory that was open shows what it showed, but nothing to remember.
        told = {name: each.ttl_s for name, each, _ in fs.readdir(listed, 2)}
        assert told == {"CT": 0, "MR": 0}
        fs.releasedir(listed)


@in_trio
async def test_an_answer_that_is_overtaken_is_not_kept(store: MemoryStore, tmp_path: Path) -> None:
    async with serving(DictTree(LEAVES), store, tmp_path) as fs:
        leaf = (await find(fs, "c1/p1/CT")).inode
        answers = []

        async def ask() -> None:
            answers.append(await fs.lookup(leaf, "1a.dcm"))

        gate = Gate()
        store.on_list = lambda _: gate.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await gate.arrived()
            fs.show(DictTree(LEAVES))
            gate.open()
        assert [each.ttl_s for each in answers] == [0]
        assert (await fs.lookup(leaf, "1a.dcm")).ttl_s > 0
