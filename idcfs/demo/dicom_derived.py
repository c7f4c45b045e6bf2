"""What was found in the pictures: Segmentation, Enhanced SR and RT Structure Set objects.

PS3.3 A.51, A.35.2 and A.19. Each refers, by UID and in space, to slices of the replica.
highdicom makes the first two. It draws fresh UIDs and reads the clock, so what it
leaves in those places is replaced afterwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from idcfs.demo import phantom
from idcfs.demo.dicom_common import TIME, date, describe
from idcfs.demo.dicom_slices import stack_of
from idcfs.demo.series import replica_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.demo.series import ReplicaSeries

_VERSION = "1"

_CONTOUR_POINTS = 48


def _source_of(series: ReplicaSeries) -> ReplicaSeries:
    """Return the CT that `series` was drawn on."""
    wanted = "Body_7_0_Ax_MIP_CE" if "LIVER" in (series.series_description or "") else None
    return next(
        source
        for source in replica_series()
        if source.study_instance_uid == series.study_instance_uid
        and source.modality == "CT"
        and wanted in (None, source.series_description)
    )


def _finding_of(series: ReplicaSeries) -> phantom.Ellipsoid:
    description = series.series_description or ""
    if "LIVER" in description:
        return phantom.LIVER_LESION
    return phantom.NODULES[1 if "Nodule 2" in description else 0]


def _read_slices(source: ReplicaSeries, root: Path) -> list[Dataset]:
    """Read the slices of `source`, without their pixels, in the order of their numbers."""
    return [dcmread(root / source.bucket / key, stop_before_pixels=True) for key in source.keys]


def make_segmentation(series: ReplicaSeries, root: Path) -> Iterator[Dataset]:
    """Yield the one Segmentation object of `series`: a nodule, on the slices that show it."""
    source, finding = _source_of(series), _finding_of(series)
    slices = _read_slices(source, root)
    stack = stack_of(source)
    x, y = phantom.grid(stack.size, stack.size, stack.spacing_mm)
    mask = np.stack(
        [finding.cover(x, y, float(one.ImagePositionPatient[2])) > 0.5 for one in slices]
    ).astype(np.uint8)
    segment = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Nodule",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Nodule,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=series.uid("finding"),
        tracking_id=series.series_description,
        anatomic_regions=[codes.SCT.Lung],
    )
    dataset = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=series.series_instance_uid,
        series_number=int(series.series_number or 1),
        sop_instance_uid=series.sop_instance_uid(1),
        instance_number=1,
        manufacturer=series.manufacturer or "",
        manufacturer_model_name=series.manufacturer_model_name or "",
        software_versions=_VERSION,
        device_serial_number="1",
        content_label="SEGMENTATION",
        content_description="A nodule of a phantom drawn by idcfs",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    _make_stable(dataset, series)
    organization = dataset.DimensionOrganizationSequence[0]
    organization.DimensionOrganizationUID = series.uid("dimensions")
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = series.uid("dimensions")
    yield dataset


def _make_stable(dataset: Dataset, series: ReplicaSeries) -> None:
    """Put the index's facts over what highdicom copied or took from the clock."""
    describe(dataset, series, 1)
    dataset.ContentDate, dataset.ContentTime = date(series.series_date), TIME
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "TimezoneOffsetFromUTC"):
        if keyword in dataset:
            del dataset[keyword]
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = date(series.series_date) + TIME


def make_report(series: ReplicaSeries, root: Path) -> Iterator[Dataset]:
    """Yield the one Enhanced SR object of `series`: a nodule measured and rated (TID 1500)."""
    source, finding = _source_of(series), _finding_of(series)
    segmentation = next(
        other
        for other in replica_series()
        if other.modality == "SEG"
        and other.study_instance_uid == series.study_instance_uid
        and _finding_of(other) == finding
    )
    seg = dcmread(root / segmentation.bucket / segmentation.key(1), stop_before_pixels=True)
    slices = _read_slices(source, root)
    dataset = hd.sr.EnhancedSR(
        evidence=[seg, *slices],
        content=_report_content(series, source, seg, finding)[0],
        series_instance_uid=series.series_instance_uid,
        series_number=int(series.series_number or 1),
        sop_instance_uid=series.sop_instance_uid(1),
        instance_number=1,
        manufacturer=series.manufacturer or "",
        is_complete=True,
    )
    _make_stable(dataset, series)
    yield dataset


def _report_content(
    series: ReplicaSeries, source: ReplicaSeries, seg: Dataset, finding: phantom.Ellipsoid
) -> hd.sr.MeasurementReport:
    volume_mm3 = 4 / 3 * math.pi * math.prod(finding.radii)
    person = hd.sr.PersonObserverIdentifyingAttributes(name="Idcfs^Demo")
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=str(seg.SegmentSequence[0].TrackingUID),
            identifier=str(seg.SegmentSequence[0].TrackingID),
        ),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=1,
            source_series=hd.sr.SourceSeriesForSegmentation(source.series_instance_uid),
        ),
        finding_type=codes.SCT.Nodule,
        measurements=[
            hd.sr.Measurement(
                name=codes.SCT.Volume, value=round(volume_mm3, 1), unit=codes.UCUM.CubicMillimeter
            ),
            hd.sr.Measurement(
                name=codes.SCT.Diameter,
                value=2 * max(finding.radii),
                unit=codes.UCUM.Millimeter,
            ),
        ],
    )
    return hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_person_context=hd.sr.ObserverContext(
                observer_type=codes.DCM.Person, observer_identifying_attributes=person
            )
        ),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )


def make_structure_set(series: ReplicaSeries, root: Path) -> Iterator[Dataset]:
    """Yield the one RT Structure Set object of `series`: a lesion's outline on each slice."""
    source, finding = _source_of(series), _finding_of(series)
    dataset = Dataset()
    describe(dataset, series, 1)
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.StructureSetLabel = "LESION"
    dataset.StructureSetDate, dataset.StructureSetTime = date(series.series_date), TIME
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.OperatorsName = ""
    slices = _read_slices(source, root)
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(source, slices)]
    roi = Dataset()
    roi.ROINumber = 1
    roi.ReferencedFrameOfReferenceUID = source.frame_of_reference_uid
    roi.ROIName = "Lesion"
    roi.ROIGenerationAlgorithm = "MANUAL"
    dataset.StructureSetROISequence = [roi]
    outline = Dataset()
    outline.ROIDisplayColor = [255, 64, 64]
    outline.ReferencedROINumber = 1
    outline.ContourSequence = list(_contours(slices, finding))
    dataset.ROIContourSequence = [outline]
    observation = Dataset()
    observation.ObservationNumber = 1
    observation.ReferencedROINumber = 1
    observation.RTROIInterpretedType = "GTV"
    observation.ROIInterpreter = ""
    dataset.RTROIObservationsSequence = [observation]
    yield dataset


def _reference(one: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = one.SOPClassUID
    item.ReferencedSOPInstanceUID = one.SOPInstanceUID
    return item


def _referenced_frame(source: ReplicaSeries, slices: list[Dataset]) -> Dataset:
    """Return which study, series and slices the contours lie on (PS3.3 C.8.8.5)."""
    of_series = Dataset()
    of_series.SeriesInstanceUID = source.series_instance_uid
    of_series.ContourImageSequence = [_reference(one) for one in slices]
    of_study = Dataset()
    of_study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # retired, and still asked for
    of_study.ReferencedSOPInstanceUID = source.study_instance_uid
    of_study.RTReferencedSeriesSequence = [of_series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.frame_of_reference_uid
    frame.RTReferencedStudySequence = [of_study]
    return frame


def _contours(slices: list[Dataset], finding: phantom.Ellipsoid) -> Iterator[Dataset]:
    """Yield the ellipse in which each slice cuts the finding (PS3.3 C.8.8.6)."""
    (cx, cy, cz), (rx, ry, rz) = finding.centre, finding.radii
    for one in slices:
        z = float(one.ImagePositionPatient[2])
        inside = 1 - ((z - cz) / rz) ** 2
        if inside <= 0:
            continue
        scale = math.sqrt(inside)
        contour = Dataset()
        contour.ContourImageSequence = [_reference(one)]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = _CONTOUR_POINTS
        points: list[str] = []
        for step in range(_CONTOUR_POINTS):
            angle = 2 * math.pi * step / _CONTOUR_POINTS
            points += [
                f"{cx + scale * rx * math.cos(angle):.3f}",
                f"{cy + scale * ry * math.sin(angle):.3f}",
                f"{z:.3f}",
            ]
        contour.ContourData = points
        yield contour
