"""The field's own tools read series straight from the mount."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import openslide
import pydicom
import pytest
import SimpleITK

from idcfs.demo.series import replica_series
from tests.fuse.test_tree import default_path

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.demo.series import ReplicaSeries
    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica


sitk: Any = SimpleITK  # its stubs leave the methods without annotations


def run(*command: str | Path) -> str:
    """Run a tool and return what it prints on both streams."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("series", replica_series(), ids=lambda series: series.uuid[:8])
def test_dcmtk_gdcm_and_pydicom_read_one_file_of_each_series(
    mounted: Mount, series: ReplicaSeries
) -> None:
    path = min(
        (mounted.path / default_path(series)).iterdir(), key=lambda each: each.stat().st_size
    )
    dump = run("dcmdump", "-q", path)
    assert f"[{series.series_instance_uid}]" in dump
    assert f"[{series.patient_id}]" in dump
    assert run("dcmftest", path).startswith("yes:")
    assert f"MediaStorage is {series.sop_class_uid} " in run("gdcminfo", path)
    dataset = pydicom.dcmread(path)
    assert dataset.SeriesInstanceUID == series.series_instance_uid
    assert dataset.PatientID == series.patient_id
    assert dataset.Modality == series.modality
    assert dataset.SOPClassUID == series.sop_class_uid


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_simpleitk_reads_a_series_as_a_volume(
    mounted: Mount, replica: ServedReplica, modality: str
) -> None:
    series = replica.one(modality)
    directory = mounted.path / default_path(series)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(
        str(directory), series.series_instance_uid
    )
    assert len(names) == series.instance_count
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOff()
    volume = reader.Execute()
    assert volume.GetSize()[2] == series.instance_count
    voxels = sitk.GetArrayViewFromImage(volume)
    assert np.ptp(voxels) > 0


def test_dcm2niix_converts_a_series(mounted: Mount, replica: ServedReplica, tmp_path: Path) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    run("dcm2niix", "-o", tmp_path, "-f", "ct", mounted.path / default_path(series))
    volume = sitk.ReadImage(str(tmp_path / "ct.nii"))
    assert volume.GetSize()[2] == series.instance_count


def test_openslide_opens_the_slide_and_reads_a_tile(mounted: Mount, replica: ServedReplica) -> None:
    directory = mounted.path / default_path(replica.one("SM"))
    first = sorted(os.listdir(directory))[0]
    with openslide.OpenSlide(directory / first) as slide:
        assert slide.level_count > 1
        width, height = slide.dimensions
        tile = np.asarray(slide.read_region((width // 2, height // 2), 0, (256, 256)))
        assert tile[..., 3].all()
        assert np.ptp(tile[..., :3]) > 0
