"""The slide: VL Whole Slide Microscopy Image objects (PS3.3 A.32.8).

Six instances, as the index counts: three levels of the pyramid, a thumbnail, the
label and an overview. Levels are TILED_FULL (PS3.3 C.7.6.17.3), so that no frame
needs a description of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, ImageDraw
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from idcfs.demo import slide_picture
from idcfs.demo.dicom_common import COMMENT, TIME, code, date, describe
from idcfs.demo.slide_picture import CELL, TILE, Magnification

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.demo.series import ReplicaSeries

FULL_ROWS, FULL_COLUMNS = 20_480, 28_672
"""Size of the slide at full magnification, in pixels."""

FULL_SPACING_MM = 0.00025
"""A quarter of a micrometre a pixel, what a 40x objective gives."""

LEVEL_FACTORS = (1, 4, 16)

THUMBNAIL_FACTOR = 2
"""Of the last level."""

_SECTION_MM = 0.004


@dataclass(frozen=True, slots=True)
class _Extent:
    """How large one instance is, and how much of the slide it shows."""

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int
    height_mm: float
    width_mm: float

    @property
    def spacing_mm(self) -> list[float]:
        return [self.height_mm / self.rows, self.width_mm / self.columns]


_TISSUE_MM = (FULL_ROWS * FULL_SPACING_MM, FULL_COLUMNS * FULL_SPACING_MM)


def make_slide(series: ReplicaSeries) -> Iterator[tuple[Dataset, str]]:
    """Yield each instance of `series` with the UID of its transfer syntax."""
    tissue = slide_picture.tissue_map(FULL_ROWS // CELL, FULL_COLUMNS // CELL)
    texture = slide_picture.texture()
    levels = [Magnification(tissue, texture, factor) for factor in LEVEL_FACTORS]
    for number, level in enumerate(levels, start=1):
        yield _level(series, number, level), JPEGBaseline8Bit
    last = levels[-1]
    whole = last.picture(0, 0, last.rows, last.columns)
    small = slide_picture.shrink(whole, THUMBNAIL_FACTOR)
    yield _thumbnail(series, small), JPEGBaseline8Bit
    yield _label(series), ExplicitVRLittleEndian
    yield _overview(series, small), ExplicitVRLittleEndian


def _level(series: ReplicaSeries, number: int, level: Magnification) -> Dataset:
    derived = "NONE" if number == 1 else "RESAMPLED"
    origin = "ORIGINAL" if number == 1 else "DERIVED"
    extent = _Extent(level.rows, level.columns, TILE, TILE, *_TISSUE_MM)
    dataset = _new_instance(series, number, (origin, "PRIMARY", "VOLUME", derived), extent)
    down, across = level.grid
    frames = [level.jpeg_tile(row, column) for row in range(down) for column in range(across)]
    _set_jpeg(dataset, frames)
    return dataset


def _thumbnail(series: ReplicaSeries, picture: slide_picture.Colours) -> Dataset:
    rows, columns = picture.shape[:2]
    extent = _Extent(rows, columns, rows, columns, *_TISSUE_MM)
    kind = ("DERIVED", "PRIMARY", "THUMBNAIL", "RESAMPLED")
    dataset = _new_instance(series, len(LEVEL_FACTORS) + 1, kind, extent)
    _set_jpeg(dataset, [slide_picture.jpeg(picture)])
    return dataset


def _label(series: ReplicaSeries) -> Dataset:
    rows, columns = 400, 400
    extent = _Extent(rows, columns, rows, columns, 20.0, 20.0)
    kind = ("ORIGINAL", "PRIMARY", "LABEL", "NONE")
    dataset = _new_instance(series, len(LEVEL_FACTORS) + 2, kind, extent)
    dataset.SpecimenLabelInImage = "YES"
    dataset.LabelText = ""
    dataset.BarcodeValue = ""
    _set_plain(dataset, np.asarray(_paper(rows, columns)))
    return dataset


def _paper(rows: int, columns: int) -> Image.Image:
    """Draw the sticker: bars, and no word that could be taken for a patient's."""
    paper = Image.new("RGB", (columns, rows), (250, 250, 240))
    pen = ImageDraw.Draw(paper)
    for line, bar in enumerate("1101001110010110101101"):
        if bar == "1":
            pen.rectangle((40 + line * 14, 60, 52 + line * 14, 240), fill=(20, 20, 20))
    pen.rectangle((40, 290, 348, 300), fill=(150, 40, 90))
    return paper


def _overview(series: ReplicaSeries, tissue: slide_picture.Colours) -> Dataset:
    """The whole glass, 60 by 20 mm, with the tissue where it lies and the sticker."""
    rows, columns = 400, 1200  # 20 pixels a millimetre
    glass = Image.new("RGB", (columns, rows), slide_picture.GLASS)
    height, width = (round(side * 20) for side in _TISSUE_MM)
    glass.paste(_paper(400, 400))
    glass.paste(Image.fromarray(tissue).resize((width, height)), (700, 150))
    extent = _Extent(rows, columns, rows, columns, 20.0, 60.0)
    kind = ("ORIGINAL", "PRIMARY", "OVERVIEW", "NONE")
    dataset = _new_instance(series, len(LEVEL_FACTORS) + 3, kind, extent)
    dataset.SpecimenLabelInImage = "YES"
    _set_plain(dataset, np.asarray(glass))
    return dataset


def _set_jpeg(dataset: Dataset, frames: list[bytes]) -> None:
    pixels_per_frame = dataset.Rows * dataset.Columns * 3
    size = sum(map(len, frames))
    dataset.NumberOfFrames = len(frames)
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = round(len(frames) * pixels_per_frame / size, 2)
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"


def _set_plain(dataset: Dataset, picture: slide_picture.Colours) -> None:
    dataset.NumberOfFrames = 1
    dataset.LossyImageCompression = "00"
    dataset.PixelData = picture.tobytes()
    dataset["PixelData"].VR = "OB"


def _new_instance(
    series: ReplicaSeries, number: int, image_type: tuple[str, ...], extent: _Extent
) -> Dataset:
    """Return an instance, complete but for its frames and how they are compressed."""
    dataset = Dataset()
    describe(dataset, series, number)
    dataset.ImageType = list(image_type)
    dataset.ContentDate, dataset.ContentTime = date(series.series_date), TIME
    dataset.AcquisitionDateTime = date(series.series_date) + TIME
    dataset.ImageComments = COMMENT
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid
    dataset.PositionReferenceIndicator = "SLIDE_CORNER"
    _describe_matrix(dataset, series, extent)
    _describe_specimen(dataset, series)
    dataset.VolumetricProperties = "VOLUME"
    dataset.BurnedInAnnotation = "NO"
    dataset.SpecimenLabelInImage = "NO"
    dataset.FocusMethod = "AUTO"
    dataset.ExtendedDepthOfField = "NO"
    dataset.AcquisitionContextSequence = []
    dataset.NumberOfOpticalPaths = 1
    dataset.OpticalPathSequence = [_optical_path()]
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(image_type, extent)]
    return dataset


def _describe_matrix(dataset: Dataset, series: ReplicaSeries, extent: _Extent) -> None:
    """Fill in the pixel matrix and its place on the slide (PS3.3 C.8.12.4)."""
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = series.photometric_interpretation
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.Rows, dataset.Columns = extent.tile_rows, extent.tile_columns
    dataset.TotalPixelMatrixRows = extent.rows
    dataset.TotalPixelMatrixColumns = extent.columns
    dataset.TotalPixelMatrixFocalPlanes = 1
    dataset.ImagedVolumeWidth = extent.width_mm
    dataset.ImagedVolumeHeight = extent.height_mm
    dataset.ImagedVolumeDepth = _SECTION_MM
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = 20
    origin.YOffsetInSlideCoordinateSystem = 40
    dataset.TotalPixelMatrixOriginSequence = [origin]
    dataset.DimensionOrganizationType = "TILED_FULL"
    organization = Dataset()
    organization.DimensionOrganizationUID = series.uid("dimensions")
    dataset.DimensionOrganizationSequence = [organization]


def _describe_specimen(dataset: Dataset, series: ReplicaSeries) -> None:
    """Fill in the Specimen module (PS3.3 C.7.6.22)."""
    dataset.ContainerIdentifier = f"{series.patient_id}-slide"
    dataset.IssuerOfTheContainerIdentifierSequence = []
    dataset.ContainerTypeCodeSequence = [code("433466003", "SCT", "Microscope slide")]
    specimen = Dataset()
    specimen.SpecimenIdentifier = f"{series.patient_id}-specimen"
    specimen.SpecimenUID = series.uid("specimen")
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    specimen.SpecimenPreparationSequence = []
    dataset.SpecimenDescriptionSequence = [specimen]


def _optical_path() -> Dataset:
    """Return the one optical path: white light through the tissue (PS3.3 C.8.12.5)."""
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    path.IlluminationTypeCodeSequence = [code("111744", "DCM", "Brightfield illumination")]
    path.IlluminationColorCodeSequence = [code("414298005", "SCT", "Full Spectrum")]
    path.ObjectiveLensPower = 40
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)  # the moment of its making (ICC.1 7.2.8), which is now
    profile[84:100] = bytes(16)  # a checksum over that (7.2.18); zero is "not computed"
    path.ICCProfile = bytes(profile)
    path.ColorSpace = "SRGB"
    return path


def _shared_groups(image_type: tuple[str, ...], extent: _Extent) -> Dataset:
    """Return the functional groups that hold for every frame (PS3.3 C.7.6.16)."""
    measures = Dataset()
    measures.PixelSpacing = [f"{spacing:.10g}" for spacing in extent.spacing_mm]
    measures.SliceThickness = _SECTION_MM
    frame_type = Dataset()
    frame_type.FrameType = list(image_type)
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.WholeSlideMicroscopyImageFrameTypeSequence = [frame_type]
    shared.OpticalPathIdentificationSequence = [path]
    return shared
