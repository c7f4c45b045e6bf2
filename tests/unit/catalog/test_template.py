"""Templates, and names for any value whatever."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idcfs.catalog.template import MAX_DEPTH, names_sql, parse_template
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Value = str | None


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def names_of(
    engine: duckdb.DuckDBPyConnection, template: str, rows: Sequence[tuple[Value, ...]]
) -> list[tuple[str, ...]]:
    """Name rows of the columns A, B … by a template over them."""
    columns = [chr(ord("A") + at) for at in range(len(rows[0]))]
    parsed = parse_template(template, columns)
    engine.execute(
        f"CREATE OR REPLACE TABLE v (n INT, {', '.join(f'{c} VARCHAR' for c in columns)})"
    )
    for number, row in enumerate(rows):
        engine.execute(f"INSERT INTO v VALUES ({number}, {', '.join('?' * len(row))})", list(row))
    found = engine.execute(f"{names_sql(parsed, 'SELECT * FROM v', ['n'])} ORDER BY n").fetchall()
    return [row[:-1] for row in found]


ESCAPE = "~" + "0123456789abcdef"
AWKWARD = st.sampled_from(
    [
        None, "", ".", "..", "/", "//", "../..", "/etc/passwd", "a/b", "a_b", "\0", "a\0b", "\n",
        "_none_", "_empty_", "none", "%A", "~", ESCAPE, "a" + ESCAPE, "a_b" + ESCAPE, " ", "-",
        "x" * 254, "x" * 255, "x" * 256, "x" * 10_000, "é" * 127, "é" * 128, "é" * 129,
        "\U0001f600" * 63, "\U0001f600" * 64, "\U0001f600" * 10_000, "x" * 237 + "é" * 20,
        "x" * 238 + ESCAPE, "x" * 239 + ESCAPE, "e\u0301" * 200, "\u202e", "CON", "a\\b",
    ]
)  # fmt: skip
VALUES = st.one_of(AWKWARD, st.text(max_size=40), st.text(alphabet="/._~0af\0", max_size=24))


def assert_valid(name: str) -> None:
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert "\0" not in name
    assert len(name.encode()) <= 255


@settings(max_examples=300, deadline=None)
@given(values=st.lists(VALUES, min_size=2, max_size=12, unique=True))
def test_any_values_have_valid_names_and_never_share_one(
    engine: duckdb.DuckDBPyConnection, values: list[Value]
) -> None:
    for template in ("%A", "%A_", "-%A"):
        names = [name for (name,) in names_of(engine, template, [(value,) for value in values])]
        for name in names:
            assert_valid(name)
        assert len(set(names)) == len(values)


@settings(max_examples=200, deadline=None)
@given(values=st.lists(VALUES, min_size=2, max_size=6, unique=True))
def test_a_value_equal_to_anothers_escaped_name_does_not_meet_it(
    engine: duckdb.DuckDBPyConnection, values: list[Value]
) -> None:
    names = [name for (name,) in names_of(engine, "%A", [(value,) for value in values])]
    everything = list(dict.fromkeys([*values, *names]))
    again = [name for (name,) in names_of(engine, "%A", [(value,) for value in everything])]
    twice = list(dict.fromkeys([*everything, *again]))
    thrice = [name for (name,) in names_of(engine, "%A", [(value,) for value in twice])]
    assert len(set(thrice)) == len(twice)


@settings(max_examples=200, deadline=None)
@given(first=VALUES, second=VALUES)
def test_several_values_in_one_name_stay_one_valid_name(
    engine: duckdb.DuckDBPyConnection, first: Value, second: Value
) -> None:
    ((joined, alone, other),) = names_of(engine, "%A-%B/%A%B/%B", [(first, second)])
    for name in (joined, alone, other):
        assert_valid(name)


@settings(max_examples=200, deadline=None)
@given(value=st.text(min_size=1, max_size=200))
def test_a_valid_value_is_its_own_name(engine: duckdb.DuckDBPyConnection, value: str) -> None:
    ((name,),) = names_of(engine, "%A", [(value,)])
    plain = (
        not set(value) & {"/", "\0", "~"}
        and value not in (".", "..", "_none_", "_empty_")
        and len(value.encode()) <= 255
    )
    if plain:
        assert name == value
    elif "~" not in value:
        assert name != value


def test_escaped_names_as_documented(engine: duckdb.DuckDBPyConnection) -> None:
    def escaped(clean: str, value: str) -> str:
        encoded = f"{len(value.encode())}:{value}".encode()
        return f"{clean}~{hashlib.sha256(encoded).hexdigest()[:16]}"

    expected = {
        None: "_none_",
        "": "_empty_",
        "_none_": escaped("_none_", "_none_"),
        "a/b\0c": escaped("a_b_c", "a/b\0c"),
        "..": escaped("__", ".."),
        "a" + ESCAPE: escaped("a" + ESCAPE, "a" + ESCAPE),
        "a" + ESCAPE.upper(): "a" + ESCAPE.upper(),
        "x" * 300: escaped("x" * 238, "x" * 300),
        "é" * 200: escaped("é" * 59, "é" * 200),
        "ZZ RIDER MR8 1": "ZZ RIDER MR8 1",
        "GBM_DSC_MRI_DRO_Bo=3T": "GBM_DSC_MRI_DRO_Bo=3T",
        "two\nlines": "two\nlines",
    }
    names = names_of(engine, "%A", [(value,) for value in expected])
    assert [name for (name,) in names] == list(expected.values())


def test_two_dots_from_two_values_do_not_escape(engine: duckdb.DuckDBPyConnection) -> None:
    ((name,),) = names_of(engine, "%A%B", [(".", ".")])
    assert name.startswith("__~")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (None, []),
        ("", []),
        ("/", []),
        ("//%PatientID//-/", [["%PatientID"], ["-"]]),
        ("%Modality_%PatientID/%SeriesDescription",
         [["%Modality", "_", "%PatientID"], ["%SeriesDescription"]]),
        ("%SeriesNumber-%SeriesDate", [["%SeriesNumber", "-", "%SeriesDate"]]),
        ("%Mod%PatientIDality", [["%Mod", "%PatientID", "ality"]]),
    ],
)  # fmt: skip
def test_parse(text: str | None, shape: list[list[str]]) -> None:
    columns = ["PatientID", "Modality", "Series", "SeriesNumber", "SeriesDate", "SeriesDescription"]
    parsed = parse_template(text, columns)
    found = [
        ["%" + p.text if p.is_column else p.text for p in component]
        for component in parsed.components
    ]
    assert found == shape


def test_literal_that_looks_like_a_variable_is_text() -> None:
    parsed = parse_template("%Mod%PatientIDality")
    assert [piece.is_column for piece in parsed.components[0]] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%Modalty", "unknown variable %Modalty; nearest: %Modality"),
        ("%patientid/%Modality", "unknown variable %patientid; nearest: %PatientID"),
        ("%", "unknown variable %"),
        ("%Modality/data", "has 'data': between variables only"),
        ("PatientID", "has 'PatientID'.*did you mean %PatientID"),
        ("%PatientID/../%Modality", "has '..'"),
        ("%PatientID\udcff", "between variables only"),
        ("%PatientID\0", "between variables only"),
        ("%PatientID/" * (MAX_DEPTH + 1), f"has {MAX_DEPTH + 1} levels"),
    ],
)
def test_refused_templates_say_why(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_template(text)
