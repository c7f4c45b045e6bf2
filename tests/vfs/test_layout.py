"""The file system over a layout as the catalog compiles it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.catalog.compile import compile_layout
from idcfs.catalog.index import Index
from idcfs.catalog.layout import Layout
from idcfs.catalog.layout_file import LayoutFile
from tests.support.stores import MemoryStore, in_trio
from tests.unit.catalog.conftest import Row, series_uuid, write_parquet
from tests.vfs.test_filesystem import walk
from tests.vfs.trees import serving

if TYPE_CHECKING:
    from pathlib import Path

ROWS: list[Row] = [
    {"collection_id": "nlst", "PatientID": "100", "SeriesInstanceUID": "1.1"},
    {"collection_id": "nlst", "PatientID": "ZZ RIDER MR8 1", "SeriesInstanceUID": "1.2"},
    {"collection_id": "rider", "PatientID": "100", "SeriesInstanceUID": "1.3", "instanceCount": 2},
]


def compiled(index: Index, template: str, path: Path) -> Layout:
    with path.open("wb") as file:
        compile_layout(index, template, None, "test", file.fileno())
    return Layout(LayoutFile(path, "test"))


@in_trio
async def test_inodes_stay_whatever_is_selected_and_for_files_under_any_template(
    tmp_path: Path,
) -> None:
    write_parquet(tmp_path / "index.parquet", ROWS)
    index = Index.open(tmp_path / "index.parquet")
    store = MemoryStore()
    for row, names in enumerate([["a.dcm"], ["b.dcm"], ["c.dcm", "d.dcm"]]):
        for name in names:
            store.objects[f"{series_uuid(row)}/{name}"] = name.encode()
            store.etags[f"{series_uuid(row)}/{name}"] = "e-1"
    layout = compiled(index, "%collection_id/%PatientID", tmp_path / "layout")
    flat = compiled(index, "", tmp_path / "flat")
    found = {}
    for name, tree in [("all", layout), ("some", layout.narrow([1, 2])), ("flat", flat)]:
        async with serving(tree, store, tmp_path / "cache") as fs:
            found[name] = {path: each.inode for path, each in (await walk(fs)).items()}
    layout.close()
    flat.close()
    assert "nlst/ZZ RIDER MR8 1/b.dcm" in found["all"]
    assert len(found["all"]) == 9
    assert found["some"].items() < found["all"].items()
    assert len(found["some"]) == 7
    files = {path.split("/")[-1]: inode for path, inode in found["all"].items() if "." in path}
    assert found["flat"] == files
