"""Compiled layouts against a simple model, and against damage."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idcfs.catalog import layouts
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.compile import compile_layout
from idcfs.catalog.index import Index
from idcfs.catalog.layout import Layout
from idcfs.catalog.layout_file import LayoutFile, LayoutFileError, LayoutWriter
from idcfs.catalog.layouts import open_layout
from idcfs.catalog.selection import Selection
from idcfs.errors import CacheError, IndexFileError, NoSuchEntryError, UsageError
from idcfs.model import DEFAULT_TEMPLATE, ROOT, DirectoryId, TreeTotals
from tests.unit.catalog.conftest import Row, WriteIndex, series_uuid, write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Model = dict[str, list[int]]
"""Paths of leaves, with the rows of their series in order."""


def compile_here(index: Index, template: str, path: Path) -> Layout:
    """Compile in this process, which spares the tests a start of Python each."""
    with path.open("wb") as file:
        compile_layout(index, template, None, "test", file.fileno())
    return Layout(LayoutFile(path, "test"))


def read_back(layout: Layout) -> tuple[Model, dict[str, DirectoryId]]:
    """Walk a layout, checking on the way that its answers agree with one another."""
    leaves: Model = {}
    ids: dict[str, DirectoryId] = {}
    pending = [(ROOT, "")]
    while pending:
        directory, path = pending.pop()
        ids[path] = directory
        assert layout.contains(directory)
        assert layout.get_path(directory) == path
        children = layout.children(directory)
        names = [name for name, _ in children]
        assert names == sorted(set(names), key=str.encode)
        assert layout.count_children(directory) == len(children)
        for name, child in children:
            assert layout.get_parent(child) == directory
            assert layout.find_child(directory, name) == child
            assert layout.find_child(directory, name + "x") in {None, *dict(children).values()}
            pending.append((child, f"{path}/{name}".lstrip("/")))
        if layout.is_leaf(directory):
            assert not children
            rows = [series.row for series in layout.series(directory)]
            leaves[path] = rows
            for series in layout.series(directory):
                assert layout.find_series(series.row) == series
                assert layout.leaves_of(series) == [directory]
        else:
            assert not layout.series(directory)
    return leaves, ids


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "collection_id": st.sampled_from(
                ["a", "a!", "a/b", "ab", "b", "\n", "é", "\U0001f600"]
            ),
            "PatientID": st.sampled_from(["1", "10", "1 0", "2", "_none_"]),
            "Modality": st.sampled_from(["CT", "MR"]),
            "SeriesDescription": st.sampled_from([None, "", "x", "y"]),
            "instanceCount": st.sampled_from([None, -1, 0, 1, 7, 2**40]),
            "series_size_MB": st.sampled_from([None, 0.0, 0.000001, 26.405988, -1.0]),
            "aws_bucket": st.sampled_from(["idc-open-data", "idc-open-data-cr"]),
        }
    ),
    max_size=24,
)
TEMPLATES = ["", "%collection_id", "%collection_id/%PatientID/%Modality",
             "%SeriesDescription/-/%collection_id_%PatientID"]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, template=st.sampled_from(TEMPLATES), data=st.data())
def test_a_layout_is_what_the_paths_say(
    rows: list[Row], template: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("layout")
    write_parquet(directory / "index.parquet", rows)
    index = Index.open(directory / "index.parquet")
    layout = compile_here(index, template, directory / "layout")
    # The paths themselves come from the same SQL, which has tests of its own.
    paths = {s.row: path for s, path in Catalog(index).series_paths(None, template)}
    assert sorted(paths) == list(range(len(rows)))
    leaves, ids = read_back(layout)
    assert_model(layout, leaves, rows, paths)
    for picked in (
        data.draw(st.sets(st.sampled_from(range(len(rows))))) if rows else set(),
        set(paths),
    ):
        narrowed = layout.narrow(picked)
        kept, kept_ids = read_back(narrowed)
        assert_model(narrowed, kept, rows, {row: paths[row] for row in picked})
        assert kept_ids.items() <= ids.items()
        for path, directory_id in ids.items():
            assert narrowed.contains(directory_id) == (path in kept_ids)
        for row in range(-1, len(rows) + 1):
            assert (narrowed.find_series(row) is not None) == (row in picked)
    layout.close()


def assert_model(layout: Layout, leaves: Model, rows: list[Row], paths: dict[int, str]) -> None:
    model: Model = defaultdict(list)
    for row in sorted(paths):
        model[paths[row]].append(row)
    if not (set(leaves) == {""} and not paths):  # an empty flat tree still has its root
        assert leaves == model

    def count(row: int) -> int:
        value = rows[row]["instanceCount"]
        return value if isinstance(value, int) and 0 <= value < 2**32 - 1 else 0

    def size(row: int) -> int:
        value = rows[row]["series_size_MB"]
        return round(value * 1e6) if isinstance(value, float) and value > 0 else 0

    assert layout.totals == TreeTotals(len(paths), sum(map(count, paths)), sum(map(size, paths)))
    widest = max((sum(map(count, group)) for group in model.values()), default=0)
    assert layout.widest_leaf_instances() == widest
    for row in paths:
        series = layout.find_series(row)
        assert series is not None
        assert (series.uuid, series.bucket) == (series_uuid(row), rows[row]["aws_bucket"])
        assert series.size_bytes == size(row)
        assert series.instance_count == (
            count(row) or (0 if rows[row]["instanceCount"] == 0 else None)
        )


@pytest.fixture
def small(write_index: WriteIndex) -> Index:
    return write_index([{"PatientID": p, "Modality": m} for p in "abc" for m in ("CT", "MR")])


def test_unknown_numbers_and_names(small: Index, tmp_path: Path) -> None:
    layout = compile_here(small, "%PatientID/%Modality", tmp_path / "layout")
    for number in (1, 3, -1, 1 << 32 | 3, 2 << 32 | 6, 3 << 32, 1 << 40, -(1 << 32)):
        assert not layout.contains(DirectoryId(number))
        with pytest.raises(NoSuchEntryError):
            layout.children(DirectoryId(number))
    for name in ("", "A", "aa", "a\0", "\udcff", "z" * 10_000):
        assert layout.find_child(ROOT, name) is None
    for row in (-1, 6, 1 << 40):
        assert layout.find_series(row) is None


def test_rows_that_could_name_other_objects_are_left_out(
    write_index: WriteIndex, tmp_path: Path
) -> None:
    bad: list[Row] = [
        {"crdc_series_uuid": value}
        for value in (None, "", "../../x", series_uuid(99)[:-1], f"{{{series_uuid(99)}}}",
                      "ABCDEF00-0000-0000-0000-000000000000", f"{series_uuid(9)}/..")
    ]  # fmt: skip
    bad += [{"aws_bucket": value} for value in (None, "", "..", "a/b", "Idc", "x" * 64, "a b?")]
    index = write_index([*bad, {}])
    layout = open_layout(index, "%Modality", tmp_path / "layouts")
    assert (layout.totals.series_count, layout.refused_count) == (1, len(bad))
    assert [s.row for s, _ in Catalog(index).series_paths(None, "")] == [len(bad)]
    assert layout.narrow(range(len(bad) + 1)).totals.series_count == 1


def test_a_layout_is_compiled_once_and_kept(
    small: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_layout(small, "%PatientID", tmp_path / "layouts").close()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert open_layout(small, "%PatientID", tmp_path / "layouts").totals.series_count == 6


def test_layouts_that_were_not_opened_for_long_go_when_another_is_made(
    small: Index, tmp_path: Path
) -> None:
    directory = tmp_path / "layouts"
    used = open_layout(small, "%PatientID", directory)
    unused = open_layout(small, "%Modality", directory)
    for path in directory.glob("*.layout"):
        os.utime(path, (0, 0))
    again = open_layout(small, "%PatientID", directory)
    open_layout(small, "%collection_id", directory).close()
    assert len(list(directory.glob("*.layout"))) == 2
    assert unused.totals.series_count == 6  # for who has it open
    again.close()
    used.close()
    unused.close()
    open_layout(small, "%Modality", directory).close()
    assert len(list(directory.glob("*.layout"))) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:60] + b"\0" + content[61:],
        lambda content: b"x" * len(content),
        lambda content: content[:8] + b"\xff\xff\xff\xff" + content[12:],
        lambda content: content[:12] + b"\xff\xff\xff\x7f" + content[16:],
    ],
)
def test_a_damaged_layout_is_compiled_anew(
    small: Index, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    open_layout(small, "%PatientID", tmp_path).close()
    (path,) = tmp_path.glob("*.layout")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    layout = open_layout(small, "%PatientID", tmp_path)
    assert [name for name, _ in layout.children(ROOT)] == ["a", "b", "c"]
    assert path.read_bytes() == whole


def test_a_layout_with_one_flipped_bit_is_compiled_anew(small: Index, tmp_path: Path) -> None:
    open_layout(small, "%PatientID/%Modality", tmp_path).close()
    (path,) = tmp_path.glob("*.layout")
    whole = path.read_bytes()
    file = LayoutFile(path)
    sections = [
        (name, file.text_offset(name), length)
        for name, (_, length, _) in file.header.sections.items()
    ]
    file.close()
    assert {"uuids", "names1", "child_start2", "leaf"} <= {name for name, _, _ in sections}
    for name, start, length in sections:
        for at in (start, start + length - 1):
            damaged = bytearray(whole)
            damaged[at] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(LayoutFileError, match=f"{name} is damaged"):
                LayoutFile(path)
    open_layout(small, "%PatientID/%Modality", tmp_path).close()
    assert path.read_bytes() == whole


def test_a_layout_of_many_megabytes_is_checked_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "layout"
    chunks = [bytes([number]) * 1_000_003 for number in range(3)]
    with path.open("wb") as file:
        writer = LayoutWriter(file.fileno())
        writer.add("first", chunks)
        writer.add("none", [])
        writer.add("last", reversed(chunks))
        fields = dict.fromkeys(("series_count", "refused_count", "instance_count", "size_bytes"), 0)
        more = {"depth": 0, "widest_leaf_instances": 0, "mtime_ns": 0, "identity": ""}
        writer.finish({**fields, **more, "buckets": [], "level_counts": [1]})
    whole = path.read_bytes()
    layout = LayoutFile(path)
    end = layout.text_offset("last") + 3 * 1_000_003
    layout.close()
    for at in (end - 1, end - 1_000_004):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with pytest.raises(LayoutFileError, match="last is damaged"):
            LayoutFile(path)


def test_what_a_killed_compile_leaves_is_neither_used_nor_kept(
    small: Index, tmp_path: Path
) -> None:
    open_layout(small, "%PatientID", tmp_path).close()
    (path,) = tmp_path.glob("*.layout")
    leftover = tmp_path / f"{path.stem}.killed.tmp"
    leftover.write_bytes(path.read_bytes()[:100])
    path.unlink()
    assert open_layout(small, "%PatientID", tmp_path).totals.series_count == 6
    assert not leftover.exists()


def test_a_compiler_that_is_killed_leaves_no_layout(
    small: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.run

    def kill_half_way(command: list[str], **options: object) -> object:
        code = "import os, sys; os.kill(os.getpid(), 9)"
        return real([command[0], "-c", code], **options)  # type: ignore[call-overload]  # passed on

    monkeypatch.setattr(subprocess, "run", kill_half_way)
    with pytest.raises(IndexFileError, match="killed by signal 9"):
        open_layout(small, "%PatientID", tmp_path)
    assert not list(tmp_path.glob("*.layout"))
    assert not list(tmp_path.glob("*.tmp"))


def test_processes_that_compile_at_once_do_no_harm(small: Index, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from idcfs.catalog.index import Index; "
        "from idcfs.catalog.layouts import open_layout; "
        "l = open_layout(Index.open(Path(sys.argv[1])), '%PatientID', Path(sys.argv[2])); "
        "print(l.totals.series_count)"
    )
    command = [sys.executable, "-c", code, str(small.path), str(tmp_path / "new")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in running] == ["6"] * 4
    assert len(list((tmp_path / "new").glob("*.layout"))) == 1
    assert not list((tmp_path / "new").glob("*.tmp"))


def test_a_directory_that_cannot_be_written_costs_only_time(small: Index, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    layout = open_layout(small, "%PatientID", in_the_way / "layouts")
    assert layout.totals.series_count == 6
    layout.close()


def test_a_full_disk_costs_only_time(
    small: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = layouts._run_compiler

    def full(request: dict[str, object], output: Path) -> None:
        if output.parent == tmp_path / "layouts":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(request, output)

    monkeypatch.setattr(layouts, "_run_compiler", full)
    assert open_layout(small, "%PatientID", tmp_path / "layouts").totals.series_count == 6
    assert not list((tmp_path / "layouts").glob("*.tmp"))


def test_no_disk_at_all_is_told(
    small: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(request: dict[str, object], output: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(layouts, "_run_compiler", full)
    with pytest.raises(CacheError, match="No space left"):
        open_layout(small, "%PatientID", tmp_path)


def test_the_compilers_errors_come_back_as_they_are(small: Index, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nearest: %Modality"):
        open_layout(small, "%Modalty", tmp_path)
    content = small.path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    small.path.write_bytes(content[:4] + b"\xff" * (footer - 4) + content[footer:])
    with pytest.raises(IndexFileError, match=r"cannot use the index .*index1\.parquet"):
        open_layout(Index.open(small.path), "%Modality/%PatientID", tmp_path)


def test_the_real_index_narrowed_to_a_collection(catalog: Catalog, tmp_path: Path) -> None:
    full = open_layout(catalog.index, DEFAULT_TEMPLATE, tmp_path)
    assert len(full.children(ROOT)) == 179
    rows = catalog.rows(Selection(collection_id=("rider_pilot",)))
    assert not catalog.has_earlier(rows)
    layout = full.narrow(rows)
    assert [name for name, _ in layout.children(ROOT)] == ["rider_pilot"]
    size = catalog.size(rows)
    assert layout.totals == TreeTotals(size.series_count, size.instance_count, size.size_bytes)
    expected = {(s.row, path) for s, path in catalog.series_paths(rows, DEFAULT_TEMPLATE)}
    leaves, _ = read_back(layout)
    assert {(row, path) for path, group in leaves.items() for row in group} == expected
    for row in random.Random(1).sample(rows, 3):
        assert full.find_series(row) == layout.find_series(row)


def test_series_of_earlier_releases_get_a_layout_of_their_own(
    catalog: Catalog, tmp_path: Path
) -> None:
    prior = "865d8361-5242-42b9-a7d3-a53178a868a8"
    current = "085e85b3-3780-47f6-8538-585bcca95336"
    rows = catalog.rows(Selection(crdc_series_uuid=(prior, current)))
    assert catalog.has_earlier(rows)
    layout = open_layout(catalog.index, "%collection_id/%Manufacturer", tmp_path, rows)
    leaves, _ = read_back(layout)
    assert sorted(leaves) == [
        "4d_lung/Varian Imaging Laboratories, Switzerland",
        "acrin_nsclc_fdg_pet/_none_",
    ]
    (row,) = leaves["acrin_nsclc_fdg_pet/_none_"]
    series = layout.find_series(row)
    assert series is not None
    assert (series.uuid, series.bucket, series.instance_count) == (prior, "idc-open-data-two", None)
