"""Selections of the real index against plain counting, and the words for what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from idcfs.catalog.catalog import Catalog
from idcfs.catalog.selection import Selection, Unmatched, split_values
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.catalog.selection import AnalysisResults
    from tests.unit.catalog.conftest import Row, WriteIndex

PRIOR = "865d8361-5242-42b9-a7d3-a53178a868a8"
CURRENT = "085e85b3-3780-47f6-8538-585bcca95336"
CURRENT_COUNT = 1_044_191


@pytest.fixture(scope="module")
def table(catalog: Catalog) -> list[dict[str, object]]:
    """The index as plain Python values."""
    columns = (
        "collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
        "crdc_series_uuid", "analysis_result_id", "instanceCount", "series_size_MB",
    )  # fmt: skip
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT {', '.join(columns)} FROM read_parquet('{catalog.index.path}')"
        ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in found]


def pick(table: list[dict[str, object]], **wanted: object) -> list[int]:
    """Rows whose columns hold these values; a tuple means one of several."""
    return [
        number
        for number, row in enumerate(table)
        if all(
            row[column] in values if isinstance(values, tuple) else row[column] == values
            for column, values in wanted.items()
        )
    ]


def test_the_most_specific_identifier_decides_and_the_rest_narrows(
    catalog: Catalog, table: list[dict[str, object]]
) -> None:
    one = table[123_456]
    collection, patient = str(one["collection_id"]), str(one["PatientID"])
    study, series = str(one["StudyInstanceUID"]), str(one["SeriesInstanceUID"])
    cases = [
        (Selection(), list(range(len(table)))),
        (Selection(collection_id=("rider_pilot", "4d_lung")),
         pick(table, collection_id=("rider_pilot", "4d_lung"))),
        (Selection(patient_id=(patient,)), pick(table, PatientID=patient)),
        # A patient decides, even beside a collection that does not have it.
        (Selection(patient_id=(patient,), collection_id=("4d_lung",)),
         pick(table, PatientID=patient)),
        (Selection(study_instance_uid=(study,)), pick(table, StudyInstanceUID=study)),
        (Selection(series_instance_uid=(series,), study_instance_uid=(study,)),
         pick(table, SeriesInstanceUID=series)),
        (Selection(crdc_series_uuid=(CURRENT,)), pick(table, crdc_series_uuid=CURRENT)),
        (Selection(collection_id=("nlst",), analysis_result_id=("nlst_sybil",)),
         pick(table, collection_id="nlst", analysis_result_id="nlst_sybil")),
        (Selection(analysis_result_id=("nlst_sybil",)),
         pick(table, analysis_result_id="nlst_sybil")),
        (Selection(collection_id=("4d_lung",), modality=("RTSTRUCT",)),
         pick(table, collection_id="4d_lung", Modality="RTSTRUCT")),
        (Selection(collection_id=(collection,), where="instanceCount > 100 -- many"),
         [n for n in pick(table, collection_id=collection)
          if isinstance(count := table[n]["instanceCount"], int) and count > 100]),
        (Selection(where="Modality = 'CT' OR Modality = 'MR'", modality=("MR",)),
         pick(table, Modality="MR")),
        (Selection(rows=(5, 7, 5), collection_id=("4d_lung",)), [5, 7]),
    ]  # fmt: skip
    assert collection != "4d_lung"
    for selection, expected in cases:
        assert expected
        assert catalog.rows(selection) == expected


def test_earlier_releases_are_found_by_uuid_only(catalog: Catalog) -> None:
    assert catalog.rows(Selection(crdc_series_uuid=(PRIOR,))) == [CURRENT_COUNT]
    ((series, path),) = catalog.series_paths([CURRENT_COUNT], "%collection_id/%StudyDate")
    assert (series.uuid, path) == (PRIOR, "acrin_nsclc_fdg_pet/_none_")
    assert (series.row, series.instance_count, series.size_bytes) == (
        CURRENT_COUNT,
        None,
        27_460_000,
    )


def test_size(catalog: Catalog, table: list[dict[str, object]]) -> None:
    rows = pick(table, collection_id="rider_pilot")
    size = catalog.size(rows)
    assert size.series_count == len(rows)
    assert size.instance_count == sum(int(str(table[row]["instanceCount"])) for row in rows)
    megabytes = [float(str(table[row]["series_size_MB"])) for row in rows]
    assert size.size_bytes == sum(round(each * 1e6) for each in megabytes)
    assert catalog.size([]).series_count == 0


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(collection_id=("nslt",)), "no collection 'nslt' in IDC v25; nearest: nlst"),
        (Selection(collection_id=("nlst", "4d-lung")), "no collection '4d-lung'.*nearest: 4d_lung"),
        (Selection(collection_id=("NLST",)), "nearest: nlst"),
        (Selection(patient_id=("ZZ RIDER MR8",)), "no patient .*; nearest: ZZ RIDER MR8 1"),
        (Selection(study_instance_uid=("1.2.3",)), "no study '1.2.3' in IDC v25$"),
        (Selection(series_instance_uid=("1.2.3",)), "no series '1.2.3' in IDC v25$"),
        (Selection(crdc_series_uuid=("x",)), "no crdc_series_uuid 'x'"),
        (Selection(analysis_result_id=("nlst_sibyl",)), "no analysis result.*nearest: nlst_sybil"),
        (Selection(modality=("CTT",)), "no modality 'CTT'.*nearest: CT"),
        # Overruled by the patient, but unknown all the same.
        (Selection(patient_id=("100012",), collection_id=("x y",)), "no collection 'x y'"),
        (Selection(collection_id=("4d_lung",), modality=("SM",)), "picks no series of IDC v25"),
        (Selection(where="Modality = 'nothing'"), "picks no series"),
        (Selection(patient_id=("\udcff",)), "no patient"),
        (Selection(where="Modality = '\udcff'"), "not valid UTF-8"),
        (Selection(modality=("'; DROP VIEW series; --",)), "no modality"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_named_with_its_nearest(
    catalog: Catalog, selection: Selection, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        catalog.rows(selection)
    assert "\n" not in str(caught.value)


def test_what_matches_can_be_had_beside_what_does_not(catalog: Catalog) -> None:
    rows, unmatched = catalog.match(Selection(collection_id=("4d_lung", "nslt")))
    assert rows == catalog.rows(Selection(collection_id=("4d_lung",)))
    assert unmatched == [Unmatched("collection", "nslt", ("nlst",))]


def test_bare_identifiers_are_taken_for_whatever_they_match(
    catalog: Catalog, table: list[dict[str, object]]
) -> None:
    one = table[500_000]
    study, series = str(one["StudyInstanceUID"]), str(table[9]["SeriesInstanceUID"])
    values = split_values(
        [f"rider_pilot, {study},,", PRIOR, "nlst_sybil", "ZZ RIDER MR8 1", series, "rider_pilo"]
    )
    rows, unmatched = catalog.resolve_identifiers(values)
    expected = {
        *pick(table, collection_id="rider_pilot"), CURRENT_COUNT, 9,
        *pick(table, StudyInstanceUID=study),
        *pick(table, analysis_result_id="nlst_sybil"), *pick(table, PatientID="ZZ RIDER MR8 1"),
    }  # fmt: skip
    assert rows == sorted(expected)
    assert [(each.kind, each.value) for each in unmatched] == [("identifier", "rider_pilo")]
    assert unmatched[0].nearest[0] == "rider_pilot"


def test_an_identifier_of_two_kinds_means_both(write_index: WriteIndex) -> None:
    rows: list[Row] = [
        {"collection_id": "lung", "PatientID": "a"},
        {"collection_id": "other", "PatientID": "lung"},
        {"collection_id": "other", "PatientID": "b", "analysis_result_id": "lung"},
        {"collection_id": "other", "PatientID": "c"},
    ]
    catalog = Catalog(write_index(rows))
    assert catalog.resolve_identifiers(["lung"]) == ([0, 1, 2], [])
    assert catalog.rows(Selection(collection_id=("lung",))) == [0]


def test_nothing_given_and_empty_lists(catalog: Catalog) -> None:
    assert split_values(["", " , "]) == ()
    assert catalog.resolve_identifiers([]) == ([], [])
    with pytest.raises(UsageError, match="picks no series"):
        catalog.rows(Selection(rows=()))


@pytest.mark.parametrize(
    "where",
    [
        "1=1) UNION SELECT (1", "1=1; SELECT 1", "true) OR (true", "true LIMIT 1",
        "true GROUP BY 1", "true ORDER BY 1", "1=1 UNION SELECT 1", "1=1 /*", "(1=1", "", " ",
        "true, false", "1 AS x", "*", "$1", "?", "Modalty = 'CT'", "Modality", "PatientID = 'x",
        "SELECT true", "(COPY (SELECT 1) TO 'x')", "1=1 EXCEPT SELECT 1", "true INTO x",
        "PatientID IN (SELECT content FROM read_text('/etc/passwd'))",
        "EXISTS (FROM '/etc/passwd')", "EXISTS (FROM glob('/etc/*'))",
        "EXISTS (SELECT * FROM read_csv('https://example.org/x'))",
    ],
)  # fmt: skip
def test_where_is_one_expression_over_the_index(catalog: Catalog, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.rows(Selection(where=where))
    assert "\n" not in str(caught.value)


def test_where_may_ask_the_other_tables(catalog: Catalog, tmp_path: Path) -> None:
    where = (
        "collection_id IN (SELECT collection_id FROM collections_index WHERE subjects = 20) "
        "AND Modality = 'RTSTRUCT'"
    )
    assert catalog.rows(Selection(where=where))
    with pytest.raises(UsageError, match=r'Modalty.*Candidate bindings: "Modality"'):
        catalog.rows(Selection(where="Modalty = 'CT'"))


def test_an_identifier_that_is_of_two_kinds_picks_both(write_index: WriteIndex) -> None:
    index = write_index(
        [
            {"collection_id": "lung", "PatientID": "a"},
            {"collection_id": "other", "PatientID": "lung"},
            {"collection_id": "other", "PatientID": "b", "analysis_result_id": "lung"},
            {"collection_id": "other", "PatientID": "c"},
        ]
    )
    assert Catalog(index).resolve_identifiers(["lung"]) == ([0, 1, 2], [])


@pytest.mark.parametrize("field", [None, "patient_id"])
def test_of_many_unknown_values_only_the_first_are_looked_for_by_likeness(
    catalog: Catalog, field: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def nearest(connection: object, column: str, value: str) -> list[str]:
        looked.append(value)
        return [column]

    monkeypatch.setattr("idcfs.catalog.selection._nearest", nearest)
    values = tuple(f"no such {number}" for number in range(100_000))
    if field is None:
        rows, unmatched = catalog.resolve_identifiers(values)
    else:
        rows, unmatched = catalog.match(Selection(patient_id=values))
    assert (rows, len(unmatched)) == ([], len(values))
    assert len(set(looked)) == 5
    assert [bool(each.nearest) for each in unmatched[:7]] == [True] * 5 + [False] * 2


@pytest.mark.parametrize(
    ("which", "expected"), [("include", [0, 1, 2]), ("exclude", [0, 2]), ("only", [1])]
)
def test_analysis_results_are_taken_or_left(
    write_index: WriteIndex, which: AnalysisResults, expected: list[int]
) -> None:
    index = write_index(
        [
            {"SeriesInstanceUID": "1"},
            {"SeriesInstanceUID": "2", "analysis_result_id": "derived"},
            {"SeriesInstanceUID": "3"},
        ]
    )
    assert Catalog(index).rows(Selection(analysis_results=which)) == expected


def test_an_analysis_result_cannot_be_selected_and_excluded(write_index: WriteIndex) -> None:
    index = write_index([{"analysis_result_id": "derived"}])
    selection = Selection(analysis_result_id=("derived",), analysis_results="exclude")
    with pytest.raises(UsageError, match="selected and excluded at once"):
        Catalog(index).rows(selection)
