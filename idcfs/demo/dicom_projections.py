"""Pictures that X-rays cast: CR and digital mammography objects, and the localizer of a CT.

PS3.3 A.2 (Computed Radiography), A.27 (Digital Mammography X-Ray) and A.3 (CT).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from idcfs.demo import phantom
from idcfs.demo.dicom_common import code, new_image, set_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset

    from idcfs.demo.series import ReplicaSeries

CORONAL = [1, 0, 0, 0, 0, -1]
"""Image Orientation (Patient) from the front: rows to the left, columns to the feet."""


def make_radiograph(series: ReplicaSeries) -> Iterator[Dataset]:
    """Yield the one CR Image object of `series`, a chest from the front."""
    rows, columns = 1760, 2000
    dataset = new_image(series, 1, ("ORIGINAL", "PRIMARY"))
    dataset.ViewPosition = "AP"
    dataset.PatientOrientation = ["L", "F"]
    dataset.KVP = 110
    dataset.PlateID = ""
    dataset.ImagerPixelSpacing = [0.2, 0.2]
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    shadow = phantom.chest_shadow(rows, columns)
    film = 4095 * (1.05 - np.exp(-1.6 * shadow))  # what stops the rays is bright
    film += phantom.noise(rows, columns, seed=1) * 18
    set_pixels(dataset, series, np.clip(film, 0, 4095).astype(np.uint16), bits_stored=12)
    yield dataset


def make_localizer(series: ReplicaSeries) -> Iterator[Dataset]:
    """Yield the one CT Image object of `series`, a scout view to plan the scan on."""
    rows = columns = 512
    dataset = new_image(series, 1, ("ORIGINAL", "PRIMARY", "LOCALIZER"))
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    dataset.ImageOrientationPatient = CORONAL
    dataset.ImagePositionPatient = [-199.6, 0, 175.6]
    dataset.PixelSpacing = [0.6875, 0.78125]  # 352 by 400 mm
    dataset.SliceThickness = 1
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.WindowCenter, dataset.WindowWidth = 0, 1500
    shadow = phantom.chest_shadow(rows, columns) * 1500 + phantom.noise(rows, columns, seed=1) * 10
    set_pixels(dataset, series, np.clip(shadow, 0, 4095).astype(np.uint16), bits_stored=12)
    yield dataset


_VIEWS = (
    ("CC", "399162004", "cranio-caudal"),
    ("MLO", "399368009", "medio-lateral oblique"),
)


def make_mammogram(series: ReplicaSeries) -> Iterator[Dataset]:
    """Yield the objects of `series`: a left breast from above, and from the side."""
    rows, columns = 2294, 1914
    for number, (view, code_value, meaning) in enumerate(_VIEWS, start=1):
        dataset = new_image(series, number, ("DERIVED", "PRIMARY", ""))
        _describe_mammogram(dataset, view)
        dataset.ViewCodeSequence = [code(code_value, "SCT", meaning)]
        dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []
        shadow = phantom.breast_shadow(rows, columns, oblique=view == "MLO")
        shadow += phantom.noise(rows, columns, seed=number) * 0.012 * (shadow > 0.02)
        grey = np.clip(shadow * 255, 0, 255).astype(np.uint8)
        set_pixels(dataset, series, grey, bits_stored=8)
        yield dataset


def _describe_mammogram(dataset: Dataset, view: str) -> None:
    """Fill in the DX and Mammography modules (PS3.3 C.8.11.1 to C.8.11.7)."""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = "L"
    dataset.PatientOrientation = ["A", "R"] if view == "CC" else ["A", "FR"]
    dataset.AnatomicRegionSequence = [code("76752008", "SCT", "Breast")]
    dataset.OrganExposed = "BREAST"
    dataset.ViewPosition = view
    dataset.BreastImplantPresent = "NO"
    dataset.PartialView = "NO"
    dataset.PositionerType = "MAMMOGRAPHIC"
    dataset.PositionerPrimaryAngle = 0 if view == "CC" else 50
    dataset.DetectorType = "DIRECT"
    dataset.DetectorActiveShape = "RECTANGLE"
    dataset.DetectorTemperature = ""
    dataset.ImagerPixelSpacing = [0.094, 0.094]
    dataset.KVP = 28
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.LossyImageCompression = "00"
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.AcquisitionContextSequence = []
