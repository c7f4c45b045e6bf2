"""Going on from one index to another, against a model by path and UUID."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.catalog.compile import compile_layout
from idcfs.catalog.index import Index
from idcfs.catalog.layout import Layout
from idcfs.catalog.layout_file import LayoutFile
from idcfs.catalog.numbering import NumberedLayout, Numbering
from idcfs.catalog.succession import Changes, Predecessor, number_directories, number_series
from idcfs.model import ROOT, DirectoryId
from tests.unit.catalog.conftest import Row, series_uuid, write_parquet

SERIES = st.dictionaries(
    st.integers(0, 9),
    st.tuples(st.sampled_from("abc"), st.sampled_from("pq")),
    min_size=1,
)
"""The UUIDs of an index, each with its collection and patient."""

Shown = tuple[dict[str, DirectoryId], dict[str, dict[str, int]]]
"""The numbers of all directories by path, and those of the series of leaves by UUID."""


def write(directory: Path, series: dict[int, tuple[str, str]], backwards: bool) -> Layout:
    rows: list[Row] = [
        {"collection_id": c, "PatientID": p, "crdc_series_uuid": series_uuid(number)}
        for number, (c, p) in series.items()
    ]
    path = directory / "index.parquet"
    write_parquet(path, rows[::-1] if backwards else rows)
    index = Index(path, {}, "test")
    with (directory / "layout").open("wb") as file:
        compile_layout(index, "%collection_id/%PatientID", None, "test", file.fileno())
    return Layout(LayoutFile(directory / "layout"))


def walk(tree: Layout | NumberedLayout) -> Shown:
    """Read a tree back, checking on the way that its answers agree with one another."""
    directories, pending = {"": ROOT}, [ROOT]
    leaves: dict[str, dict[str, int]] = {}
    while pending:
        directory = pending.pop()
        path = tree.get_path(directory)
        assert tree.contains(directory)
        assert tree.count_children(directory) == len(tree.children(directory))
        for name, child in tree.children(directory):
            assert tree.find_child(directory, name) == child
            assert tree.get_parent(child) == directory
            directories[f"{path}/{name}".lstrip("/")] = child
            pending.append(child)
        if tree.is_leaf(directory):
            leaves[path] = {str(each.uuid): each.number for each in tree.series(directory)}
            for each in tree.series(directory):
                assert tree.find_series(each.number) == each
                assert tree.leaves_of(each) == [directory]
    return directories, leaves


def check_changes(changes: Changes, before: Shown, after: Shown) -> None:
    """Check that every name is told that a kernel could be wrong about, and no other."""
    expected: set[tuple[DirectoryId, str]] = set()
    for path in before[0].keys() ^ after[0].keys():
        above, _, name = path.rpartition("/")
        if above in before[0] and above in after[0]:
            expected.add((before[0][above], name))
    changed = {
        path
        for path in before[1].keys() & after[1].keys()
        if before[1][path].keys() != after[1][path].keys()
    }
    for path in changed:
        above, _, name = path.rpartition("/")
        expected.add((before[0][above], name))
    told = [(directory, name) for directory, names in changes.entries for name in names]
    assert sorted(told) == sorted(expected)
    assert set(changes.leaves) == {before[0][path] for path in changed}


@settings(deadline=None, max_examples=15)
@given(indexes=st.lists(st.tuples(SERIES, st.booleans()), min_size=2, max_size=4), data=st.data())
def test_what_stays_keeps_its_number_and_what_goes_leaves_it_to_nobody(
    indexes: list[tuple[dict[int, tuple[str, str]], bool]], data: st.DataObject
) -> None:
    shown: list[Shown] = []
    before: Predecessor | None = None
    with tempfile.TemporaryDirectory() as scratch:
        for count, (series, backwards) in enumerate(indexes):
            directory = Path(scratch, str(count))
            directory.mkdir()
            layout = write(directory, series, backwards)
            if data.draw(st.booleans(), label="narrowed"):
                layout = layout.narrow(
                    sorted(data.draw(st.sets(st.sampled_from(layout.rows()), min_size=1)))
                )
            if before is None:
                before = Predecessor(layout)
            else:
                numbered = number_series([before], [layout])
                levels, changes = number_directories(before, layout)
                before = Predecessor(layout, Numbering(levels, numbered.numbers))
                after = walk(before.tree)
                check_changes(changes, shown[-1], after)
                old, new = (
                    {uuid for leaf in each[1].values() for uuid in leaf}
                    for each in (shown[-1], after)
                )
                assert (numbered.added, numbered.removed) == (len(new - old), len(old - new))
                assert walk(layout)[1].keys() == after[1].keys()
            shown.append(walk(before.tree))
    for earlier, later in itertools.pairwise(shown):
        for path in earlier[0].keys() & later[0].keys():
            assert earlier[0][path] == later[0][path]
    # No number ever names two things.
    for names in (
        [(number, path) for each in shown for path, number in each[0].items()],
        [
            (number, uuid)
            for each in shown
            for leaf in each[1].values()
            for uuid, number in leaf.items()
        ],
    ):
        of: dict[int, str] = {}
        for number, name in names:
            assert of.setdefault(number, name) == name


def test_numbers_that_were_never_given_out_name_nothing(tmp_path: Path) -> None:
    layout = write(tmp_path, {1: ("a", "p")}, False)
    numbered = number_series([Predecessor(layout)], [layout])
    levels, changes = number_directories(Predecessor(layout), layout)
    tree = NumberedLayout(layout, Numbering(levels, numbered.numbers))
    assert changes == Changes()
    for number in (-1, 1 << 32 | 7, 9 << 32, 1 << 50):
        assert not tree.contains(DirectoryId(number))
    for number in (-1, 1, 1 << 40):
        assert tree.find_series(number) is None
