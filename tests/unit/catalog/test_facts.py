"""What single series are said to be, and what directories have in common."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import duckdb
import pytest

from idcfs.catalog import facts as facts_module
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.facts import SeriesFacts, common_columns
from idcfs.catalog.index import Index
from idcfs.catalog.template import parse_template
from idcfs.errors import IndexFileError
from idcfs.model import DEFAULT_TEMPLATE
from idcfs.vfs.extended import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ALL = frozenset(COLUMNS.values())


def one(facts: SeriesFacts, row: int) -> Mapping[str, str]:
    """Return what is told of one row that is there."""
    return facts.facts(range(row, row + 1))[row]


@pytest.fixture(scope="module")
def facts() -> Iterator[SeriesFacts]:
    facts = SeriesFacts(Index.open())
    yield facts
    facts.close()


def test_a_row_has_the_columns_of_the_index(facts: SeriesFacts) -> None:
    index = Index.open()
    (expected,) = duckdb.execute(
        "SELECT struct_pack(SeriesInstanceUID, license_short_name, instanceCount) "
        f"FROM read_parquet('{index.path}', file_row_number = true) WHERE file_row_number = 4711"
    ).fetchone() or ({},)
    told = one(facts, 4711)
    assert {key: told[key] for key in expected} == {k: str(v) for k, v in expected.items()}


def test_null_is_left_out_and_a_row_that_is_not_there_is_empty(facts: SeriesFacts) -> None:
    (row,) = duckdb.execute(
        "SELECT file_row_number FROM read_parquet("
        f"'{Index.open().path}', file_row_number = true) WHERE BodyPartExamined IS NULL LIMIT 1"
    ).fetchone() or (0,)
    told = one(facts, row)
    assert "BodyPartExamined" not in told
    assert told["collection_id"]
    assert facts.facts(range(1 << 40, (1 << 40) + 2)) == {}


def test_series_of_earlier_releases_have_what_their_table_has(facts: SeriesFacts) -> None:
    row = Catalog.open()._current_count()
    told = facts.facts(range(row - 1, row + 1))
    assert told[row]["crdc_series_uuid"]
    assert "license_short_name" not in told[row]
    assert told[row - 1]["license_short_name"]


def test_a_child_that_died_is_replaced(facts: SeriesFacts) -> None:
    one(facts, 1)
    assert facts._child is not None
    os.kill(facts._child.pid, signal.SIGKILL)
    facts._child.wait()
    assert one(facts, 1)["SeriesInstanceUID"]


def test_a_child_that_says_nothing_is_given_up(
    facts: SeriesFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(facts, 1)
    child = facts._child
    assert child is not None
    child.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(facts_module, "_PATIENCE_S", 0.01)
    with pytest.raises(IndexFileError, match="could not be read in"):
        one(facts, 1)
    assert child.returncode == -signal.SIGKILL
    monkeypatch.undo()
    assert one(facts, 1)["SeriesInstanceUID"]


def test_no_child_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        facts_module, "child_command", lambda module: (["/nowhere/python"], dict(os.environ))
    )
    with pytest.raises(IndexFileError, match=r"cannot start a process .* No such file"):
        one(SeriesFacts(Index.open()), 1)


def test_many_rows_come_at_once(facts: SeriesFacts) -> None:
    told = facts.facts(range(500_000, 500_512))
    assert list(told) == list(range(500_000, 500_512))
    assert told[500_100] == one(facts, 500_100)


def test_an_index_that_was_replaced_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "idc_index.parquet"
    path.write_bytes(Index.open().path.read_bytes())
    index = Index.open(path)
    some = f"SELECT * FROM '{index.path}' LIMIT 10"
    duckdb.execute(f"COPY ({some}) TO '{tmp_path / 'new'}' (FORMAT parquet)")
    (tmp_path / "new").rename(path)
    facts = SeriesFacts(index)
    with pytest.raises(IndexFileError, match="not the index any more"):
        one(facts, 3)
    facts.close()


@pytest.mark.parametrize(
    ("template", "levels"),
    [
        ("", [set()]),
        ("%collection_id/%PatientID", [set(), {"collection_id"}, {"collection_id", "PatientID"}]),
        ("/%StudyInstanceUID//-/", [set(), *2 * [{"StudyInstanceUID", "collection_id"}]]),
        ("%Modality_%PatientID", [set(), {"Modality", "PatientID"}]),
        ("%ManufacturerModelName", [set(), {"ManufacturerModelName"}]),
        ("%Modality/%crdc_series_uuid", [set(), {"Modality"}, ALL | {"crdc_series_uuid"}]),
        ("%aws_bucket/%SeriesInstanceUID/%Modality", [set(), set(), ALL, ALL]),
    ],
)
def test_directories_have_in_common_what_their_path_says(
    template: str, levels: list[set[str]]
) -> None:
    assert common_columns(template, ALL) == levels
    assert len(levels) == parse_template(template, Catalog.open().columns()).depth + 1


def test_what_is_said_to_be_common_is(facts: SeriesFacts) -> None:
    """For every directory of the default template in the whole index."""
    template = parse_template(DEFAULT_TEMPLATE)
    path: list[str] = []
    for component, common in zip(
        template.components, common_columns(DEFAULT_TEMPLATE, ALL)[1:], strict=True
    ):
        path += [piece.text for piece in component if piece.is_column]
        if "SeriesInstanceUID" in path:
            break  # one row for each directory
        counts = ", ".join(f"max(distincts.{column})" for column in sorted(common))
        distincts = ", ".join(f"count(DISTINCT {column}) AS {column}" for column in sorted(common))
        found = duckdb.execute(
            f"SELECT {counts} FROM (SELECT {distincts} FROM '{Index.open().path}' "
            f"GROUP BY {', '.join(path)}) AS distincts"
        ).fetchone()
        assert found is not None
        assert max(found) == 1
