"""What all DICOM objects of the replica share: patient, study, series, and how they are written.

Attribute types (1, 2, 3) are those of PS3.3; type 2 attributes that the index says
nothing of are written empty. Times, names and comments are fixed: no clock is read,
so that an object has the same bytes at every build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.demo import phantom
    from idcfs.demo.series import ReplicaSeries

TIME = "120000"
"""Every time of day in the replica."""

_UNPAIRED = ("CHEST", "ABDOMEN")

COMMENT = "A phantom drawn by idcfs under the identifiers of a public series; no patient"

AXIAL = [1, 0, 0, 0, 1, 0]
"""Image Orientation (Patient) of an axial picture: rows to the left, columns to the back."""


def date(index_date: str | None) -> str:
    """Return one of the index's dates, YYYY-MM-DD, as a DICOM DA value; empty for None."""
    return (index_date or "").replace("-", "")


def describe(dataset: Dataset, series: ReplicaSeries, number: int) -> None:
    """Fill in who and what `dataset` is: everything that the index's row says, and its UID.

    Patient, General Study, General Series, General Equipment and SOP Common modules
    (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1, C.12.1).
    """
    _describe_patient(dataset, series)
    dataset.StudyInstanceUID = series.study_instance_uid
    dataset.StudyDate = date(series.study_date)
    dataset.StudyTime = TIME
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    if series.study_description:
        dataset.StudyDescription = series.study_description
    dataset.Modality = series.modality
    dataset.SeriesInstanceUID = series.series_instance_uid
    dataset.SeriesNumber = series.series_number or None
    dataset.SeriesTime = TIME
    if series.series_date:
        dataset.SeriesDate = date(series.series_date)
    if series.series_description:
        dataset.SeriesDescription = series.series_description
    if series.body_part_examined:
        dataset.BodyPartExamined = series.body_part_examined
    if series.modality in ("CT", "MR", "PT") and series.body_part_examined not in _UNPAIRED:
        dataset.Laterality = ""  # asked for unless the part is unpaired; both sides are seen
    dataset.Manufacturer = series.manufacturer or ""
    if series.manufacturer_model_name:
        dataset.ManufacturerModelName = series.manufacturer_model_name
    dataset.SOPClassUID = series.sop_class_uid
    dataset.SOPInstanceUID = series.sop_instance_uid(number)
    dataset.InstanceNumber = number


def _describe_patient(dataset: Dataset, series: ReplicaSeries) -> None:
    dataset.PatientID = series.patient_id
    # Not the PatientID, as is usual in the IDC: `=` separates the parts of a name.
    dataset.PatientName = "Phantom^Idcfs"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = series.patient_sex or ""
    if series.patient_age:
        dataset.PatientAge = series.patient_age
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Nobody was pictured"


def new_image(series: ReplicaSeries, number: int, image_type: tuple[str, ...]) -> Dataset:
    """Return the start of an image object: all but what its modality adds."""
    dataset = Dataset()
    describe(dataset, series, number)
    dataset.ImageType = list(image_type)
    dataset.ImageComments = COMMENT
    dataset.BurnedInAnnotation = "NO"
    for moment in ("Content", "Acquisition"):
        setattr(dataset, f"{moment}Date", date(series.series_date or series.study_date))
        setattr(dataset, f"{moment}Time", TIME)
    return dataset


def set_pixels(
    dataset: Dataset, series: ReplicaSeries, pixels: phantom.Pixels, bits_stored: int
) -> None:
    """Fill in the Image Pixel module (PS3.3 C.7.6.3) for one grey picture.

    `pixels` is indexed [row, column] and holds uint8, uint16 or int16, as
    `series.pixel_representation` says.
    """
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = series.photometric_interpretation
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(series.pixel_representation or 0)
    little_endian = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    dataset.PixelData = little_endian.tobytes()
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def write(dataset: Dataset, transfer_syntax_uid: str, path: Path) -> None:
    """Write `dataset` to `path` as a DICOM file (PS3.10). Raises what pydicom raises."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    dcmwrite(
        path,
        dataset,
        implicit_vr=transfer_syntax_uid == ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=True,
    )
