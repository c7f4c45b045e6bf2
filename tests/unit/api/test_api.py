"""The Python API on the real index, without a network."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import idcfs
from idcfs.errors import MissingPackageError
from tests.support.examples import examples
from tests.unit.catalog.conftest import write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLIDE = "1.3.6.1.4.1.5962.99.1.209729460.1653324678.1640887269300.2.0"


@pytest.fixture(scope="module")
def idc(tmp_path_factory: pytest.TempPathFactory) -> idcfs.Index:
    return idcfs.Index(cache_dir=tmp_path_factory.mktemp("api") / "cache")


@pytest.fixture(scope="module")
def lctsc(idc: idcfs.Index) -> idcfs.Selection:
    return idc.select("lctsc")


def test_the_examples_of_the_document_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    blocks = examples(network=False)
    assert len(blocks) > 6
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert str(names["url"]).startswith("https://viewer.imaging.datacommons.cancer.gov/v3/")
    assert "10.7937/k9/tcia.2015.lo9ql9sx" in capsys.readouterr().out


def test_importing_costs_next_to_nothing() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, idcfs; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    rooms = {name for name in loaded if name.startswith("idcfs.")}
    assert rooms == set()
    assert not {"duckdb", "trio", "click", "tqdm"} & set(loaded)


def test_every_name_that_is_promised_is_there() -> None:
    assert [name for name in idcfs.__all__ if not hasattr(idcfs, name)] == []
    assert not hasattr(idcfs, "nonsense")


def test_selections_compose(idc: idcfs.Index, lctsc: idcfs.Selection) -> None:
    ct = lctsc.where("Modality = 'CT'")
    rest = lctsc - ct
    rider = idc.select("rider_pilot")
    assert 0 < len(ct) < len(lctsc)
    assert ct == idc.select(collection_id="lctsc", modality=["CT"])
    assert ct | rest == lctsc
    assert len(ct & rest) == 0
    assert len(lctsc | rider) == len(lctsc) + len(rider)
    assert idc.select("lctsc", "rider_pilot") == lctsc | rider
    assert lctsc.size().size_bytes == ct.size().size_bytes + rest.size().size_bytes
    assert len({ct, idc.select("lctsc", modality="CT")}) == 1


def test_an_empty_selection_answers_everything_but_prefetch(lctsc: idcfs.Selection) -> None:
    empty = lctsc - lctsc
    assert (len(empty), bool(empty), empty.size().size_bytes) == (0, False, 0)
    assert (empty.manifest(), empty.series(), list(empty.files())) == ("", [], [])
    assert list(empty.query()) == []
    assert empty.cite().sources == ()
    with pytest.raises(idcfs.UsageError, match="the selection is empty"):
        empty.prefetch()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda idc: idc.select("nlts"), "no identifier 'nlts' in IDC v25; nearest: nlst"),
        (lambda idc: idc.select(modality="XX"), "no modality 'XX'"),
        (lambda idc: idc.select(modality=[]), "modality takes text, or several texts, not"),
        (lambda idc: idc.select(patient_id=[1]), "patient_id takes text"),
        (lambda idc: idc.select(""), "identifiers takes text"),
        (lambda idc: idc.select(where="nonsense = 1"), "--where 'nonsense = 1'"),
        (lambda idc: idc.select_sql("SELECT Modality FROM index"), "the query names no series"),
        (lambda idc: idc.select_sql("SELECT 'x' AS crdc_series_uuid"), "no crdc_series_uuid 'x'"),
        (lambda idc: idc.select_sql("DROP TABLE index"), "must be a single SELECT"),
        (lambda idc: list(idc.query("SELECT nonsense")), "the query failed"),
        (lambda idc: idc.viewer_url(), "say which series or study to view"),
        (lambda idc: idc.viewer_url(series_instance_uid="1.2"), "no series '1.2' in IDC v25"),
        (lambda idc: idc.viewer_url(study_instance_uid="'"), 'no study "\'" in IDC v25'),
        (
            lambda idc: idc.viewer_url(series_instance_uid=SLIDE, study_instance_uid="1.2"),
            "is not of the study '1.2'",
        ),
        (lambda idc: idc.viewer_url(study_instance_uid="1", viewer="x"), "there is no viewer 'x'"),
        (lambda idc: idc.select("lctsc").prefetch(jobs=0), "jobs must be 1 to 256"),
        (lambda idc: idc.select("lctsc").prefetch(verify="no"), "verify is 'full' or 'length'"),
        (lambda idc: idc.select("lctsc").prefetch(""), "download_dir is empty"),
        (lambda idc: idc.select("lctsc").prefetch("x", report=""), "report is empty"),
        (lambda idc: idc.select("lctsc") & ["lctsc"], "composes with a selection, not"),
    ],
)
def test_what_makes_no_sense_is_told(
    idc: idcfs.Index, ask: Callable[[idcfs.Index], object], message: str
) -> None:
    with pytest.raises(idcfs.UsageError) as caught:
        ask(idc)
    assert message in str(caught.value)


def test_selections_of_different_indexes_do_not_compose(
    lctsc: idcfs.Selection, tmp_path: Path
) -> None:
    path = tmp_path / "other.parquet"
    write_parquet(path, [{}])
    with pytest.raises(idcfs.UsageError, match="different indexes do not compose"):
        lctsc | idcfs.Index(path, cache_dir=tmp_path).select()


def test_manifests_are_written_whole_and_read_back(
    idc: idcfs.Index, lctsc: idcfs.Selection, tmp_path: Path
) -> None:
    for source in ("aws", "gcs"):
        path = tmp_path / source
        lctsc.write_manifest(path, source=source)
        assert idc.read_manifest(path) == lctsc
    assert (tmp_path / "aws").read_text() == lctsc.manifest()
    with pytest.raises(idcfs.UsageError, match="unknown source 'x': choose aws or gcs"):
        lctsc.manifest(source="x")  # type: ignore[arg-type]  # as an untyped caller may
    with pytest.raises(idcfs.UsageError, match="unknown source 'x': choose aws or gcs"):
        lctsc.write_manifest(tmp_path / "x", source="x")  # type: ignore[arg-type]  # the same
    assert not (tmp_path / "x").exists()
    (tmp_path / "aws").write_text("s3://idc-open-data/nonsense/*\n# fine\nwhat\n")
    with pytest.raises(idcfs.UsageError, match=r"line 1: .*; line 3: not an entry"):
        idc.read_manifest(tmp_path / "aws")


def test_series_come_from_sql_whichever_column_names_them(
    idc: idcfs.Index, lctsc: idcfs.Selection
) -> None:
    for columns in ("Modality, SeriesInstanceUID", "crdc_series_uuid", "*"):
        sql = f"SELECT {columns} FROM index WHERE collection_id = 'lctsc' -- all of it"
        assert idc.select_sql(sql) == lctsc
    assert len(idc.select_sql("SELECT SeriesInstanceUID FROM index WHERE false")) == 0


def test_a_notebook_shows_tables(idc: idcfs.Index, lctsc: idcfs.Selection) -> None:
    shown = lctsc._repr_html_()
    assert shown.count("<tr>") == 11
    assert f"{len(lctsc):,} series" in shown
    assert f"{len(lctsc):,} series" in repr(lctsc)
    query = idc.query("SELECT '<script>' AS \"a&b\", 1234 AS a, NULL AS n FROM range(30)")
    assert "<th>a&amp;b</th>" in query._repr_html_()
    assert "<td>&lt;script&gt;</td><td>1,234</td><td></td>" in query._repr_html_()
    assert "more rows follow" in query._repr_html_()


@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_a_package_that_is_missing_is_named(
    idc: idcfs.Index, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idcfs.catalog.query.find_spec", lambda name: None)
    query = idc.query("SELECT 1")
    with pytest.raises(MissingPackageError, match=f"pip install {package}$"):
        {"pandas": query.pandas, "polars": query.polars, "pyarrow": query.arrow}[package]()


@pytest.mark.parametrize("refused", [False, True])
def test_a_prefetch_that_the_store_refused_tells_the_way_round(refused: bool) -> None:
    report = idcfs.Report(1, 0, 0, 0, 0, (), "refused", 0.1, out_of_reach=refused)
    with pytest.raises(idcfs.IncompletePrefetchError) as caught:
        report.raise_if_incomplete()
    assert ("idcfs prefetch --from-dir" in str(caught.value)) is refused
