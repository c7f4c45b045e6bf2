"""The replica: its facts are the index's, its objects are what the facts say."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import duckdb
import pydicom
import pytest

from idcfs.demo.dicom_common import write
from idcfs.demo.dicom_makers import make_objects
from idcfs.demo.replica import build_replica, fill
from idcfs.demo.s3http import Connection
from idcfs.demo.series import ReplicaSeries, replica_series
from idcfs.errors import StoreError
from tests.support.replica import cache_directory

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.demo.replica import Replica
    from tests.support.replica import ServedReplica


def test_every_fact_is_that_of_the_index() -> None:
    text = files("idcfs.demo").joinpath("series.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    columns = list(rows[0])
    index = files("idc_index_data") / "idc_index.parquet"
    selected = ", ".join(f'CAST("{column}" AS VARCHAR)' for column in columns)
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT {selected} FROM read_parquet(?) WHERE list_contains(?, crdc_series_uuid)",
            [str(index), [row["crdc_series_uuid"] for row in rows]],
        ).fetchall()
    expected = {tuple(row[column] or None for column in columns) for row in rows}
    assert len(rows) == len(expected)
    assert set(found) == expected


def test_the_kinds_of_series_that_the_tests_and_the_demo_rely_on() -> None:
    every = replica_series()
    assert {"CT", "MR", "PT", "SEG", "SR", "RTSTRUCT", "CR", "MG", "SM"} == {
        series.modality for series in every
    }
    assert {series.bucket for series in every} == {
        "idc-open-data",
        "idc-open-data-two",
        "idc-open-data-cr",
    }
    assert any(series.analysis_result_id for series in every)
    assert any(" " in series.patient_id for series in every)
    assert any("=" in series.patient_id for series in every)
    assert any(series.modality == "CT" and series.instance_count > 50 for series in every)
    assert len({series.patient_id for series in every if series.collection_id == "eay131"}) == 2


def test_every_series_has_as_many_instances_as_the_index_says(built_replica: Replica) -> None:
    for series in built_replica.series:
        objects = built_replica.objects_of(series)
        assert len(objects) == series.instance_count
        assert {item.path for item in objects} == set(built_replica.directory_of(series).iterdir())
        assert [item.path.stat().st_size for item in objects] == [
            item.size_bytes for item in objects
        ]


@pytest.mark.parametrize("series", replica_series(), ids=lambda series: series.uuid[:8])
def test_every_object_says_what_the_index_says(
    built_replica: Replica, series: ReplicaSeries
) -> None:
    syntaxes, uids = set(), set()
    for item in built_replica.objects_of(series):
        dataset = pydicom.dcmread(item.path, stop_before_pixels=True)
        assert dataset.PatientID == series.patient_id
        assert dataset.StudyInstanceUID == series.study_instance_uid
        assert dataset.SeriesInstanceUID == series.series_instance_uid
        assert dataset.SOPClassUID == series.sop_class_uid
        assert dataset.file_meta.MediaStorageSOPClassUID == series.sop_class_uid
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.Modality == series.modality
        assert (dataset.Manufacturer or None) == series.manufacturer
        assert (dataset.StudyDate or None) == (series.study_date or "").replace("-", "")
        assert dataset.get("SeriesDescription") == series.series_description
        assert dataset.get("BodyPartExamined") == series.body_part_examined
        assert dataset.get("PhotometricInterpretation") == series.photometric_interpretation
        assert dataset.InstanceNumber == item.number
        syntaxes.add(dataset.file_meta.TransferSyntaxUID)
        uids.add(dataset.SOPInstanceUID)
    assert syntaxes == set(series.transfer_syntax_uids)
    assert len(uids) == series.instance_count


def test_the_server_lists_exactly_the_objects_that_were_built(replica: ServedReplica) -> None:
    with Connection(replica.endpoint_url) as connection:
        listed = {
            (bucket, key, *facts)
            for bucket in replica.built.buckets
            for key, facts in connection.list_objects(bucket).items()
        }
    # The ETags are the files' MD5, those of the slide's levels included.
    assert listed == {
        (item.bucket, item.key, item.size_bytes, item.md5) for item in replica.built.objects
    }


def test_filling_again_sends_only_what_is_missing(own_replica: ServedReplica) -> None:
    small = [series for series in own_replica.series if series.modality != "SM"]
    assert fill(own_replica.built, own_replica.endpoint_url, only=small) == 0
    own_replica.store.stop()
    own_replica.store.start()
    assert fill(own_replica.built, own_replica.endpoint_url, only=small) == 0
    slide = own_replica.one("SM")
    assert fill(own_replica.built, own_replica.endpoint_url, only=[slide]) == slide.instance_count


def test_a_built_replica_is_reused(built_replica: Replica) -> None:
    made: list[ReplicaSeries] = []
    again = build_replica(cache_directory(), progress=made.append)
    assert again == built_replica
    assert made == []


def test_a_build_that_was_cut_off_is_not_used(built_replica: Replica) -> None:
    """What lies there without its manifest is removed, and so are scratch directories."""
    parent = built_replica.directory.parent
    scratch = parent / ".building-cut-off"
    scratch.mkdir()
    build_replica(parent)
    assert not scratch.exists()


@pytest.mark.parametrize(
    "series",
    [one for one in replica_series() if one.instance_count < 10 and one.modality != "SM"],
    ids=lambda series: series.uuid[:8],
)
def test_a_series_made_again_has_the_same_bytes(
    built_replica: Replica, series: ReplicaSeries, tmp_path: Path
) -> None:
    for item, (dataset, syntax) in zip(
        built_replica.objects_of(series),
        make_objects(series, built_replica.directory),
        strict=True,
    ):
        write(dataset, syntax, tmp_path / item.name)
        assert (tmp_path / item.name).read_bytes() == item.path.read_bytes()


def test_a_server_that_stores_something_else_is_noticed(
    own_replica: ServedReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = own_replica.one("SM")
    monkeypatch.setattr(Connection, "put_object", lambda *args: "0" * 32)
    with pytest.raises(StoreError, match="not its MD5"):
        fill(own_replica.built, own_replica.endpoint_url, only=[slide])


def test_the_manifest_names_every_series(built_replica: Replica) -> None:
    manifest = json.loads((built_replica.directory / "objects.json").read_text())
    assert set(manifest) == {series.uuid for series in replica_series()}


_BUILD_ONE = """
import sys, time
from pathlib import Path
from idcfs.demo import replica
series = [one for one in replica.replica_series() if one.uuid == sys.argv[2]]
replica.replica_series = lambda: series
made = []
replica.build_replica(Path(sys.argv[1]), progress=made.append)
print(len(made))
"""


def test_of_two_processes_that_build_at_once_one_builds(tmp_path: Path) -> None:
    series = next(one for one in replica_series() if one.instance_count == 8)
    command = [sys.executable, "-c", _BUILD_ONE, str(tmp_path), series.uuid]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [builder.communicate(timeout=120)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sorted(int(output) for output in outputs) == [0, 1]
    assert len(list(tmp_path.glob("replica-*/*/*/*.dcm"))) == 8
    assert not list(tmp_path.glob(".building-*"))


def test_a_directory_that_cannot_hold_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be built in .*/file/below"):
        build_replica(tmp_path / "file" / "below")


def test_a_missing_library_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("idcfs.demo.replica._LIBRARIES", ("a-library-nobody-has",))
    with pytest.raises(StoreError, match=r"pip install 'idcfs\[demo\]'"):
        build_replica(tmp_path)
