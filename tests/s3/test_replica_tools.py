"""Other people's programs read the replica's files: dcmtk, GDCM, SimpleITK, dcm2niix, OpenSlide."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
import openslide
import pydicom
import pytest
import SimpleITK

from idcfs.demo import phantom
from idcfs.demo.dicom_slices import stack_of
from idcfs.demo.series import ReplicaSeries, replica_series

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.demo.replica import Replica, ReplicaObject

sitk: Any = SimpleITK  # its stubs leave the methods without annotations

STACKS = [
    series
    for series in replica_series()
    if series.modality in ("CT", "MR", "PT") and series.instance_count > 1
]


def name(series: ReplicaSeries) -> str:
    return f"{series.modality}-{series.uuid[:8]}"


def sample(built: Replica, series: ReplicaSeries) -> list[ReplicaObject]:
    """The first, middle and last object of a series, or all if they are few."""
    objects = built.objects_of(series)
    if len(objects) <= 6:
        return list(objects)
    return [objects[0], objects[len(objects) // 2], objects[-1]]


def run(*command: str | Path) -> str:
    """Return what a program says, on both outputs; it must end with status 0."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def read_volume(built: Replica, series: ReplicaSeries) -> SimpleITK.Image:
    directory = str(built.directory_of(series))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(directory, series.series_instance_uid)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    volume: SimpleITK.Image = reader.Execute()
    return volume


@pytest.mark.parametrize("series", replica_series(), ids=name)
def test_dcmtk_and_gdcm_read_every_kind(built_replica: Replica, series: ReplicaSeries) -> None:
    for item in sample(built_replica, series):
        assert run("dcmftest", item.path).startswith("yes")
        dump = run("dcmdump", "--load-short", "--print-short", item.path).splitlines()
        assert not [line for line in dump if line.startswith(("W:", "E:"))]
        assert "MediaStorage is" in run("gdcminfo", item.path)


@pytest.mark.parametrize(
    "series",
    [one for one in replica_series() if one.photometric_interpretation and one.modality != "SM"],
    ids=name,
)
def test_pydicom_decodes_the_pixels(built_replica: Replica, series: ReplicaSeries) -> None:
    for item in sample(built_replica, series):
        pixels = pydicom.dcmread(item.path).pixel_array
        assert pixels.max() > pixels.min()


@pytest.mark.parametrize("series", STACKS, ids=name)
def test_simpleitk_stacks_a_series_into_a_volume(
    built_replica: Replica, series: ReplicaSeries
) -> None:
    stack = stack_of(series)
    volume: Any = read_volume(built_replica, series)
    assert volume.GetSize() == (stack.size, stack.size, series.instance_count)
    expected = (stack.spacing_mm, stack.spacing_mm, stack.step_mm)
    assert np.allclose(volume.GetSpacing(), expected, atol=1e-3)
    assert np.allclose(volume.GetDirection(), np.eye(3).ravel())
    lowest = stack.z(series.instance_count, series.instance_count)
    assert volume.GetOrigin()[2] == pytest.approx(lowest, abs=1e-3)


def test_a_nodule_is_where_the_phantom_has_it_in_ct_pet_and_segmentation(
    built_replica: Replica,
) -> None:
    centre = phantom.NODULES[0].centre

    def at_centre(series: ReplicaSeries) -> float:
        volume: Any = read_volume(built_replica, series)
        return float(volume[volume.TransformPhysicalPointToIndex(centre)])

    for series in STACKS:
        if series.modality == "CT" and series.series_description != "Body_7_0_Ax_MIP_CE":
            assert at_centre(series) == pytest.approx(35, abs=60)  # HU, with noise
        if series.modality == "PT":
            assert at_centre(series) > 30_000  # Bq/ml, six times the body's mean


def test_dcm2niix_converts_the_ct(built_replica: Replica, tmp_path: Path) -> None:
    series = next(one for one in STACKS if one.modality == "CT" and one.instance_count == 65)
    run("dcm2niix", "-f", "volume", "-o", tmp_path, built_replica.directory_of(series))
    image = sitk.ReadImage(str(tmp_path / "volume.nii"))
    assert image.GetSize() == (512, 512, 65)
    assert np.allclose(image.GetSpacing(), (0.78125, 0.78125, 5), atol=1e-3)
    sidecar = json.loads((tmp_path / "volume.json").read_text())
    assert sidecar["Manufacturer"] == "Siemens"


def test_highdicom_opens_the_segmentations_and_they_cover_their_nodules(
    built_replica: Replica,
) -> None:
    segmentations = [one for one in replica_series() if one.modality == "SEG"]
    for series, nodule in zip(segmentations, phantom.NODULES, strict=True):
        seg = highdicom.seg.segread(built_replica.objects_of(series)[0].path)
        ct = next(one for one in STACKS if one.study_instance_uid == series.study_instance_uid)
        sources = [uids[2] for uids in seg.get_source_image_uids()]
        assert set(sources) <= {ct.sop_instance_uid(n) for n in range(1, ct.instance_count + 1)}
        voxel_mm3 = stack_of(ct).spacing_mm ** 2 * stack_of(ct).step_mm
        marked_mm3 = float(np.count_nonzero(seg.pixel_array)) * voxel_mm3
        assert marked_mm3 == pytest.approx(4.19 * np.prod(nodule.radii), rel=0.15)


def test_the_report_refers_to_the_segmentation_and_measures_it(built_replica: Replica) -> None:
    series = next(one for one in replica_series() if one.modality == "SR")
    report = highdicom.sr.srread(built_replica.objects_of(series)[0].path)
    assert isinstance(report.content, highdicom.sr.MeasurementReport)
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    segmentation = next(one for one in replica_series() if one.modality == "SEG")
    referenced = group.referenced_segment
    assert referenced is not None
    assert referenced.referenced_sop_instance_uid == segmentation.sop_instance_uid(1)
    volume = next(one for one in group.get_measurements() if one.name.meaning == "Volume")
    assert volume.value == pytest.approx(4607.7, abs=0.1)


@pytest.mark.parametrize(
    "series", [one for one in replica_series() if one.modality == "RTSTRUCT"], ids=name
)
def test_the_contours_lie_on_slices_of_the_replica(
    built_replica: Replica, series: ReplicaSeries
) -> None:
    structures = pydicom.dcmread(built_replica.objects_of(series)[0].path)
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    referenced = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    source = next(one for one in STACKS if one.series_instance_uid == referenced.SeriesInstanceUID)
    heights = {
        source.sop_instance_uid(n): stack_of(source).z(n, source.instance_count)
        for n in range(1, source.instance_count + 1)
    }
    contours = structures.ROIContourSequence[0].ContourSequence
    assert len(contours) >= 3
    for contour in contours:
        uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
        assert float(contour.ContourData[2]) == pytest.approx(heights[uid], abs=1e-3)


def test_the_slide_is_a_pyramid_that_openslide_opens(built_replica: Replica) -> None:
    series = next(one for one in replica_series() if one.modality == "SM")
    objects = built_replica.objects_of(series)
    assert sum(item.size_bytes for item in objects) > 200_000_000
    with openslide.OpenSlide(objects[0].path) as slide:
        assert slide.level_dimensions == ((28672, 20480), (7168, 5120), (1792, 1280))
        assert slide.properties[openslide.PROPERTY_NAME_MPP_X] == "0.25"
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
        # Every level shows the same: the means of one place agree, and it is tissue.
        place = (12_288, 12_288)
        means = [
            np.asarray(slide.read_region(place, level, (4096 >> 2 * level,) * 2))[..., :3].mean(
                axis=(0, 1)
            )
            for level in range(3)
        ]
        assert np.allclose(means[0], means[1], atol=3)
        assert np.allclose(means[0], means[2], atol=3)
        assert means[0][0] > means[0][1] + 20  # redder than green: stained
        glass = np.asarray(slide.read_region((0, 0), 0, (64, 64)))[..., :3]
        assert glass.min() > 235
