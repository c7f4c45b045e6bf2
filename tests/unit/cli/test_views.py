"""What `--view` understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from idcfs.catalog.selection import Selection
from idcfs.cli.options import Selected
from idcfs.cli.views import ViewOption, parse_view, parse_views
from idcfs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=%Modality/%PatientID", ViewOption("a", "%Modality/%PatientID")),
        ("a=", ViewOption("a", None)),
        ("a=/", ViewOption("a", "/")),
        ("a=@list.txt", ViewOption("a", None, Path("list.txt"))),
        ("a=%PatientID@odd?name=@.txt", ViewOption("a", "%PatientID", Path("odd?name=@.txt"))),
        ("a=?x = '@?'", ViewOption("a", None, None, "x = '@?'")),
        (
            "my view=%Modality?Modality\n= 'CT'",
            ViewOption("my view", "%Modality", None, "Modality\n= 'CT'"),
        ),
        ("a=@~/list.txt", ViewOption("a", None, Path.home() / "list.txt")),
    ],
)
def test_what_makes_sense(text: str, expected: ViewOption) -> None:
    assert parse_view(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%Modality/%PatientID", "has no name: say NAME=TEMPLATE"),
        (".idcfs=%Modality", "cannot be called .idcfs"),
        ("a/b=%Modality", "no name of a directory"),
        ("..=%Modality", "no name of a directory"),
        ("=%Modality", "no name of a directory"),
        ("a\nb=%Modality", "no name of a directory"),
        ("a\0=%Modality", "no name of a directory"),
        ("\udcff=%Modality", "no name of a directory"),
        ("x" * 256 + "=%Modality", "longer than 255 bytes"),
        ("é" * 128 + "=%Modality", "longer than 255 bytes"),
        ("a=@", "nothing stands behind the '@'"),
        ("a=%Modality? ", "nothing stands behind the '?'"),
    ],
)
def test_what_does_not(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match="view") as caught:
        parse_view(text)
    assert reason in str(caught.value)


def test_two_of_one_name_and_too_many() -> None:
    assert len(parse_views([f"v{number}=" for number in range(1000)])) == 1000
    with pytest.raises(UsageError, match="two views are called 'a'"):
        parse_views(["a=%Modality", "b=", "a=@x"])
    with pytest.raises(UsageError, match="at most 1,000"):
        parse_views([f"v{number}=" for number in range(1001)])


def test_a_condition_narrows_that_of_the_mount() -> None:
    view = parse_view("a=?Modality = 'CT' OR TRUE")
    alone = Selected(Selection(), None)
    assert view.narrow(alone).selection.where == "Modality = 'CT' OR TRUE"
    both = Selected(Selection(where="x > 1 OR y"), None)
    assert view.narrow(both).selection.where == "(x > 1 OR y) AND (Modality = 'CT' OR TRUE)"
    assert parse_view("a=").narrow(both) is both
