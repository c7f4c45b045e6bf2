"""Trees side by side: a tree again."""

from __future__ import annotations

import pytest

from idcfs.errors import NoSuchEntryError
from idcfs.model import ROOT, DirectoryId, TreeTotals
from idcfs.vfs.views import Views, directory_in_view
from tests.support.stores import make_series
from tests.vfs.trees import DictTree

ONE, TWO, THREE = (make_series(number, count=1) for number in (1, 2, 3))


def views() -> Views:
    return Views(
        {
            "b": DictTree({"p/x": [ONE], "q/y": [TWO, THREE]}),
            "a": DictTree({"": [ONE, TWO]}),
        },
        TreeTotals(3, 3, 0),
    )


def test_every_directory_agrees_with_its_neighbours() -> None:
    tree, paths, pending = views(), {}, [ROOT]
    while pending:
        directory = pending.pop()
        assert tree.contains(directory)
        paths[tree.get_path(directory)] = directory
        children = tree.children(directory)
        assert tree.count_children(directory) == len(children)
        assert not (children and tree.is_leaf(directory))
        for name, child in children:
            assert tree.get_parent(child) == directory
            assert tree.find_child(directory, name) == child
            pending.append(child)
        assert tree.find_child(directory, "nothing") is None
    assert set(paths) == {"", "a", "b", "b/p", "b/p/x", "b/q", "b/q/y"}
    assert [name for name, _ in tree.children(ROOT)] == ["a", "b"]
    assert tree.get_parent(ROOT) == ROOT
    assert {path for path, number in paths.items() if tree.is_leaf(number)} == {
        "a",
        "b/p/x",
        "b/q/y",
    }
    assert len(set(paths.values())) == len(paths)
    assert max(paths.values()) < 2**60


def test_a_series_is_in_each_view_that_shows_it() -> None:
    tree = views()
    held = {
        series.uuid: sorted(map(tree.get_path, tree.leaves_of(series)))
        for series in (ONE, TWO, THREE)
    }
    assert held == {ONE.uuid: ["a", "b/p/x"], TWO.uuid: ["a", "b/q/y"], THREE.uuid: ["b/q/y"]}
    assert [tree.find_series(each.number) for each in (ONE, THREE)] == [ONE, THREE]
    assert tree.find_series(99) is None
    assert not tree.series(ROOT)


def test_any_other_number_is_no_directory() -> None:
    tree = views()
    for number in (
        DirectoryId(-1),
        DirectoryId(1),
        DirectoryId(1 << 39),
        directory_in_view(0, DirectoryId(77)),
        directory_in_view(2, ROOT),
        DirectoryId(1 << 70),
    ):
        assert not tree.contains(number)
        with pytest.raises(NoSuchEntryError):
            tree.get_path(number)
