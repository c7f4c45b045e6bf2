"""Stacks of axial slices: CT, MR and PET Image objects (PS3.3 A.3, A.4 and A.21).

Number 1 is the slice nearest the head. All series of a study share the phantom's
coordinates, so a PET lies on its CT and a contour on the slices it was drawn on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from idcfs.demo import phantom
from idcfs.demo.dicom_common import AXIAL, code, date, new_image, set_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.demo.series import ReplicaSeries

CT_OFFSET = -1024
"""Rescale intercept: a stored 0 is this many Hounsfield units."""

MAX_STORED = 4095
"""The largest stored value: 12 bits."""

FLUORINE_18_HALF_LIFE_S = 6586.2
"""109.77 minutes."""

INJECTED_BQ = 370e6

MEAN_BQ_ML = 5000.0
"""Activity concentration of the phantom's mean uptake: 370 MBq in 74 kg."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the slices of a series lie; lengths in millimetres."""

    size: int
    """Rows and columns."""
    spacing_mm: float
    step_mm: float
    """From one slice's middle to the next one's."""
    middle_mm: float = 0.0
    """The z of the stack's middle."""
    thickness_mm: float | None = None
    """None: the slices touch."""

    def z(self, number: int, count: int) -> float:
        """Return the z of slice `number` (from 1) of `count`."""
        return self.middle_mm + ((count + 1) / 2 - number) * self.step_mm

    @property
    def corner_mm(self) -> float:
        """The x and y of the first pixel's centre."""
        return -(self.size - 1) / 2 * self.spacing_mm


_NODULE_Z = 35.0
_LESION_Z = -105.0

_STACKS = {
    ("acrin_flt_breast", "CT", "PET-CT SERIES"): Stack(512, 0.9765625, 4.25, 30),
    ("acrin_flt_breast", "PT", "PET-CT SERIES"): Stack(128, 3.90625, 4.25, 30),
    ("acrin_nsclc_fdg_pet", "CT", "HI-RES"): Stack(512, 0.703125, 10, _NODULE_Z, 1),
    ("eay131", "CT", "LUNG_BX_ASPIRATION"): Stack(512, 0.8, 2.5, _NODULE_Z),
    ("eay131", "CT", "Lung_3_0_CE"): Stack(512, 0.75, 3, _NODULE_Z),
    ("eay131", "CT", "Body_7_0_Ax_MIP_CE"): Stack(512, 0.75, 7, _LESION_Z),
    ("lidc_idri", "CT", "CAP  5.0  B30s"): Stack(512, 0.78125, 5),
    ("gbm_dsc_mri_dro", "MR", None): Stack(192, 1.0, 1.5),
    ("rider_phantom_mri", "MR", "MultiFlip T1"): Stack(256, 0.859375, 2),
}


def stack_of(series: ReplicaSeries) -> Stack:
    """Return where the slices of `series` lie. Raises KeyError for a series without slices."""
    whole = (series.collection_id, series.modality, series.series_description)
    return _STACKS.get(whole) or _STACKS[(series.collection_id, series.modality, None)]


def make_slices(series: ReplicaSeries) -> Iterator[Dataset]:
    """Yield the CT, MR or PET Image objects of `series`, in the order of their numbers."""
    fill = {"CT": _fill_ct, "MR": _fill_mr, "PT": _fill_pt}[series.modality]
    stack = stack_of(series)
    for number in range(1, series.instance_count + 1):
        dataset = new_image(series, number, ("ORIGINAL", "PRIMARY", "AXIAL"))
        _place(dataset, series, stack, number)
        fill(dataset, series, stack, number)
        yield dataset


def _place(dataset: Dataset, series: ReplicaSeries, stack: Stack, number: int) -> None:
    """Fill in the Frame of Reference and Image Plane modules (PS3.3 C.7.4.1, C.7.6.2)."""
    z = stack.z(number, series.instance_count)
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.PixelSpacing = [stack.spacing_mm, stack.spacing_mm]
    dataset.ImageOrientationPatient = AXIAL
    dataset.ImagePositionPatient = [stack.corner_mm, stack.corner_mm, z]
    dataset.SliceThickness = stack.thickness_mm or stack.step_mm
    dataset.SliceLocation = z
    dataset.AcquisitionNumber = 1


def _plane(series: ReplicaSeries, stack: Stack, number: int) -> tuple[phantom.Plane, phantom.Plane]:
    return phantom.grid(stack.size, stack.size, stack.spacing_mm)


def _store(dataset: Dataset, series: ReplicaSeries, stored: phantom.Plane) -> None:
    """Round, clip to 12 bits and set the pixels, signed or not as the index says."""
    rounded = np.clip(np.rint(stored), 0, MAX_STORED)
    if series.pixel_representation == "1":
        set_pixels(dataset, series, rounded.astype(np.int16), bits_stored=16)
    else:
        set_pixels(dataset, series, rounded.astype(np.uint16), bits_stored=12)


def _seed(series: ReplicaSeries, number: int) -> int:
    """Return what noise to put on a slice: each its own, and the same at every build."""
    return int(series.uuid[:8], 16) + number


def _fill_ct(dataset: Dataset, series: ReplicaSeries, stack: Stack, number: int) -> None:
    """Draw the chest in Hounsfield units and fill in the CT Image module (PS3.3 C.8.2.1)."""
    x, y = _plane(series, stack, number)
    hu = phantom.chest_hu(x, y, stack.z(number, series.instance_count))
    hu += phantom.noise(stack.size, stack.size, seed=_seed(series, number)) * 12
    dataset.KVP = 120
    dataset.XRayTubeCurrent = 200
    dataset.ConvolutionKernel = "STANDARD"
    dataset.RescaleIntercept = CT_OFFSET
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
    _store(dataset, series, hu - CT_OFFSET)


def _fill_mr(dataset: Dataset, series: ReplicaSeries, stack: Stack, number: int) -> None:
    """Draw a head, or vials, and fill in the MR Image module (PS3.3 C.8.3.1)."""
    x, y = _plane(series, stack, number)
    z = stack.z(number, series.instance_count)
    draw = (
        phantom.vial_signal if series.collection_id == "rider_phantom_mri" else phantom.head_signal
    )
    signal = (
        draw(x, y, z)
        + np.abs(phantom.noise(stack.size, stack.size, seed=_seed(series, number))) * 9
    )
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]  # AXIAL is a word of CT's
    dataset.ScanningSequence = "GR"
    dataset.SequenceVariant = "SP"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "3D"
    dataset.RepetitionTime = 2000 if series.collection_id == "gbm_dsc_mri_dro" else 5
    dataset.EchoTime = 30 if series.collection_id == "gbm_dsc_mri_dro" else 1.2
    dataset.EchoTrainLength = 1
    dataset.FlipAngle = 30
    dataset.MagneticFieldStrength = 3 if series.collection_id == "gbm_dsc_mri_dro" else 1.5
    dataset.SpacingBetweenSlices = stack.step_mm
    dataset.WindowCenter, dataset.WindowWidth = 500, 1000
    _store(dataset, series, signal)


def _fill_pt(dataset: Dataset, series: ReplicaSeries, stack: Stack, number: int) -> None:
    """Draw the uptake in Bq/ml and fill in the PET modules (PS3.3 C.8.9.1, C.8.9.2, C.8.9.4)."""
    x, y = _plane(series, stack, number)
    uptake = phantom.chest_uptake(x, y, stack.z(number, series.instance_count))
    uptake += np.abs(phantom.noise(stack.size, stack.size, seed=_seed(series, number))) * 0.05
    slope = 16 * MEAN_BQ_ML / MAX_STORED
    del dataset.PatientPosition  # the codes below say it; PET may not have both
    dataset.Units = "BQML"
    dataset.CountsSource = "EMISSION"
    dataset.SeriesType = ["STATIC", "IMAGE"]
    dataset.NumberOfSlices = series.instance_count
    dataset.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RADL"]
    dataset.DecayCorrection = "START"
    dataset.DecayFactor = 1
    dataset.CollimatorType = "NONE"
    dataset.AttenuationCorrectionMethod = "CT"
    dataset.ScatterCorrectionMethod = "Model based"
    dataset.FrameReferenceTime = 0
    dataset.ActualFrameDuration = 180_000
    dataset.ImageIndex = number
    dataset.DoseCalibrationFactor = 1
    dataset.PatientWeight = 74
    dataset.RadiopharmaceuticalInformationSequence = [_tracer(series)]
    dataset.PatientOrientationCodeSequence = [code("102538003", "SCT", "recumbent")]
    dataset.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [
        code("40199007", "SCT", "supine")
    ]
    dataset.PatientGantryRelationshipCodeSequence = [code("102540008", "SCT", "headfirst")]
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = f"{slope:.8g}"
    dataset.WindowCenter, dataset.WindowWidth = 5 * MEAN_BQ_ML, 10 * MEAN_BQ_ML
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    _store(dataset, series, uptake * np.float32(MEAN_BQ_ML / slope))


def _tracer(series: ReplicaSeries) -> Dataset:
    """Return the item of the PET Isotope module: fluorothymidine marked with fluorine-18."""
    tracer = Dataset()
    tracer.Radiopharmaceutical = "Fluorothymidine F^18^"
    tracer.RadionuclideTotalDose = INJECTED_BQ
    tracer.RadionuclideHalfLife = FLUORINE_18_HALF_LIFE_S
    tracer.RadionuclidePositronFraction = 0.967
    tracer.RadiopharmaceuticalStartTime = "110000"
    tracer.RadiopharmaceuticalStartDateTime = date(series.series_date) + "110000"
    tracer.RadionuclideCodeSequence = [code("77004003", "SCT", "^18^Fluorine")]
    return tracer
