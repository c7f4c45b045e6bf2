"""Selections, manifests, citations, links and SQL are idc-index's own, on the real index.

One process of the reference answers many questions: it needs 3 GB, seconds to start and, for
whatever goes through its SQL, six seconds a question. Those are left to `make soak`.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import idcfs
from idcfs.catalog.citations import IDC_PUBLICATION
from tests.differential.test_idc_index import REPOSITORY, reference_python
from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Call = tuple[str, dict[str, Any]]
    Answer = Callable[..., Any]

SCRIPT = REPOSITORY / "tests/differential/reference_answers.py"

SM_SERIES = "1.3.6.1.4.1.5962.99.1.209729460.1653324678.1640887269300.2.0"
CT_SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.314917368146772872954571551463"
CT_STUDY = "1.3.6.1.4.1.14519.5.2.1.6279.6001.298806137288633453246975630178"
PATIENT = "LIDC-IDRI-0957"
EARLIER = "001de8f8-b263-4183-aa02-c4bffe219258"

# Their argument and ours.
WORDS = {
    "collection_id": "collection_id",
    "patientId": "patient_id",
    "studyInstanceUID": "study_instance_uid",
    "seriesInstanceUID": "series_instance_uid",
    "crdc_series_uuid": "crdc_series_uuid",
    "analysis_result_id": "analysis_result_id",
    "analysis_results": "analysis_results",
}
SELECTIONS: list[dict[str, Any]] = [
    {"collection_id": "rider_pilot"},
    {"collection_id": ["rider_pilot", "lctsc"]},
    {"patientId": PATIENT},
    {"studyInstanceUID": CT_STUDY},
    {"seriesInstanceUID": [CT_SERIES, SM_SERIES]},
    {"crdc_series_uuid": "085e85b3-3780-47f6-8538-585bcca95336"},
    {"collection_id": "rider_pilot", "patientId": PATIENT},
    {"patientId": PATIENT, "seriesInstanceUID": SM_SERIES},
    {"collection_id": "nsclc_radiomics", "analysis_results": "exclude"},
    {"collection_id": "nsclc_radiomics", "analysis_results": "only"},
    {"patientId": PATIENT, "analysis_results": "only"},
    {"analysis_result_id": "nlst_sybil"},
    {"analysis_result_id": ["nlst_sybil", "nlstseg"], "analysis_results": "only"},
    {"collection_id": "nsclc_radiomics", "analysis_result_id": "nnu_net_bpr_annotations"},
]
REFUSED: list[dict[str, Any]] = [
    {"collection_id": "rider_pilot", "analysis_result_id": "nlst_sybil",
     "analysis_results": "exclude"},
    {"collection_id": "rider_pilot", "analysis_results": "nonsense"},
]  # fmt: skip
GOOGLE = {"collection_id": "rider_pilot", "source_bucket_location": "gcs"}
DOWNLOADS = [SELECTIONS[6], SELECTIONS[9], GOOGLE]
MANIFEST = """# a comment
s3://idc-open-data/{one}/*
cp s3://idc-open-data/{two}/* .

"""
SQL = (
    "SELECT Modality, count(*) AS n, round(sum(series_size_MB), 3) AS mb FROM index "
    "WHERE collection_id = 'lctsc' GROUP BY 1 ORDER BY 1",
    "SELECT collection_id, max(max_idc_version) FROM prior_versions_index GROUP BY 1 ORDER BY 1",
)
LINKS: list[dict[str, Any]] = [
    {"seriesInstanceUID": CT_SERIES},
    {"studyInstanceUID": CT_STUDY},
    {"seriesInstanceUID": SM_SERIES},
    {"seriesInstanceUID": CT_SERIES, "viewer_selector": "ohif_v2"},
    {"studyInstanceUID": CT_STUDY, "viewer_selector": "slim"},
    {"seriesInstanceUID": SM_SERIES, "viewer_selector": "ohif_v3"},
]


def uuids(lines: list[str]) -> list[str]:
    return sorted(re.findall(r"s3://[^/]+/([^/]+)/", "\n".join(lines)))


@pytest.fixture(scope="module")
def idc() -> idcfs.Index:
    return idcfs.Index()


@pytest.fixture(scope="module")
def manifests(idc: idcfs.Index, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that both read: one by hand, and those that we write for Amazon and for Google."""
    root = tmp_path_factory.mktemp("manifests")
    restricted = idc.select_sql(
        "SELECT crdc_series_uuid FROM index WHERE aws_bucket = 'idc-open-data-cr' LIMIT 40"
    )
    one, two = uuids(idc.select("rider_pilot").manifest().splitlines())[:2]
    (root / "by-hand").write_text(MANIFEST.format(one=one, two=two))
    restricted.write_manifest(root / "aws")
    restricted.write_manifest(root / "gcs", source="gcs")
    (root / "earlier").write_text(f"cp s3://idc-open-data/{EARLIER}/* .\n")
    return {path.name: path for path in root.iterdir()}


def ask(calls: list[Call], directory: Path) -> Answer:
    """Have the reference answer calls, and return what finds the answer to each."""
    done = subprocess.run(
        [reference_python(), SCRIPT, directory],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    asked = [json.dumps(call, sort_keys=True) for call in calls]
    return lambda *call: answers[asked.index(json.dumps(call, sort_keys=True))]


@pytest.fixture(scope="module")
def picked(manifests: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Answer:
    calls: list[Call] = [("select", each) for each in SELECTIONS]
    calls += [("get_collections", {}), ("get_series_size", {"seriesInstanceUID": CT_SERIES})]
    calls.append(("citations_from_selection", {"collection_id": "nsclc_radiomics"}))
    calls.append(("citations_from_manifest", {"manifestFile": str(manifests["by-hand"])}))
    return ask(calls, tmp_path_factory.mktemp("picked"))


@pytest.fixture(scope="module")
def theirs(manifests: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Answer:
    calls: list[Call] = [("download_from_selection", each) for each in (*DOWNLOADS, *REFUSED)]
    calls += [("sql_query", {"sql_query": sql}) for sql in SQL]
    calls += [("get_viewer_URL", each) for each in LINKS]
    calls += [
        ("download_from_manifest", {"manifestFile": str(path), "validate_manifest": False})
        for path in manifests.values()
    ]
    return ask(calls, tmp_path_factory.mktemp("theirs"))


def ours(idc: idcfs.Index, arguments: dict[str, Any]) -> idcfs.Selection:
    return idc.select(**{WORDS[name]: value for name, value in arguments.items()})


@pytest.mark.parametrize("arguments", SELECTIONS, ids=str)
def test_selections_pick_the_same_series_of_the_same_size(
    arguments: dict[str, Any], idc: idcfs.Index, picked: Answer
) -> None:
    found, size_bytes = picked("select", arguments)
    selection = ours(idc, arguments)
    assert sorted(series.uuid for series in selection.series()) == sorted(found) != []
    assert selection.size().size_bytes == size_bytes


def test_collections_and_the_size_of_a_series_are_the_same(
    idc: idcfs.Index, picked: Answer
) -> None:
    found = [name for (name,) in idc.query("SELECT DISTINCT collection_id FROM index")]
    assert sorted(found) == sorted(picked("get_collections", {}))
    megabytes = picked("get_series_size", {"seriesInstanceUID": CT_SERIES})
    assert idc.select(CT_SERIES).size().size_bytes == round(megabytes * 1e6)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", DOWNLOADS[:-1], ids=str)
def test_downloads_bring_the_same_series(
    arguments: dict[str, Any], idc: idcfs.Index, theirs: Answer
) -> None:
    found = uuids(theirs("download_from_selection", arguments))
    assert uuids(ours(idc, arguments).manifest().splitlines()) == found != []


@pytest.mark.slow
@pytest.mark.parametrize("arguments", REFUSED, ids=str)
def test_what_they_refuse_we_refuse(
    arguments: dict[str, Any], idc: idcfs.Index, theirs: Answer
) -> None:
    assert theirs("download_from_selection", arguments) == "raised ValueError"
    with pytest.raises(idcfs.UsageError):
        ours(idc, arguments)


@pytest.mark.slow
def test_googles_buckets_are_named_as_they_name_them(idc: idcfs.Index, theirs: Answer) -> None:
    urls = sorted(line.split()[1] for line in theirs("download_from_selection", GOOGLE))
    selection = idc.select(collection_id=GOOGLE["collection_id"])
    assert sorted(selection.manifest(source="gcs").split()) == urls


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by-hand", "aws", "gcs", "earlier"])
def test_manifests_are_read_alike(
    name: str, idc: idcfs.Index, manifests: dict[str, Path], theirs: Answer
) -> None:
    arguments = {"manifestFile": str(manifests[name]), "validate_manifest": False}
    found = uuids(theirs("download_from_manifest", arguments))
    assert found
    assert uuids(idc.read_manifest(manifests[name]).manifest().splitlines()) == found


def test_the_same_is_cited(idc: idcfs.Index, manifests: dict[str, Path], picked: Answer) -> None:
    for selection, answer in (
        (
            idc.select(collection_id="nsclc_radiomics"),
            picked("citations_from_selection", {"collection_id": "nsclc_radiomics"}),
        ),
        (
            idc.read_manifest(manifests["by-hand"]),
            picked("citations_from_manifest", {"manifestFile": str(manifests["by-hand"])}),
        ),
    ):
        dois = {each.doi for each in selection.cite().sources} | {IDC_PUBLICATION.doi}
        assert len(dois) > 1
        assert {url.removeprefix("https://dx.doi.org/") for url in answer} == dois


@pytest.mark.slow
@pytest.mark.parametrize("arguments", LINKS, ids=str)
def test_links_lead_to_the_same_view(
    arguments: dict[str, Any], idc: idcfs.Index, theirs: Answer
) -> None:
    link = idc.viewer_url(
        series_instance_uid=arguments.get("seriesInstanceUID"),
        study_instance_uid=arguments.get("studyInstanceUID"),
        viewer=arguments.get("viewer_selector", "auto"),
    )
    assert link == theirs("get_viewer_URL", arguments)


@pytest.mark.slow
@pytest.mark.parametrize("sql", SQL)
def test_queries_have_the_same_answer(sql: str, idc: idcfs.Index, theirs: Answer) -> None:
    assert [list(row) for row in idc.query(sql)] == theirs("sql_query", {"sql_query": sql})


def test_queries_come_as_tables_of_pandas_polars_and_arrow() -> None:
    code = f"""
import idcfs
query = idcfs.Index().query({SQL[0]!r})
rows = list(query)
assert list(query.pandas().itertuples(index=False, name=None)) == rows
assert query.polars().rows() == rows
assert [tuple(row.values()) for row in query.arrow().to_pylist()] == rows
print(len(rows))
"""
    done = subprocess.run(
        [reference_python(), "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=Launcher().environ() | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1
