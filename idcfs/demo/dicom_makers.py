"""Which maker makes which series, and in which transfer syntax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.demo.dicom_derived import make_report, make_segmentation, make_structure_set
from idcfs.demo.dicom_projections import make_localizer, make_mammogram, make_radiograph
from idcfs.demo.dicom_slices import make_slices
from idcfs.demo.dicom_slide import make_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

    from idcfs.demo.series import ReplicaSeries


def make_objects(series: ReplicaSeries, root: Path) -> Iterator[tuple[Dataset, str]]:
    """Yield the objects of `series` in the order of their numbers, each with its transfer syntax.

    `root` holds, as `<bucket>/<key>`, the files of the series that this one may refer to.
    """
    if series.modality == "SM":
        yield from make_slide(series)
        return
    for dataset in _make_datasets(series, root):
        yield dataset, series.transfer_syntax_uids[0]


def _make_datasets(series: ReplicaSeries, root: Path) -> Iterator[Dataset]:
    if series.modality == "CR":
        return make_radiograph(series)
    if series.modality == "MG":
        return make_mammogram(series)
    if series.modality == "SEG":
        return make_segmentation(series, root)
    if series.modality == "SR":
        return make_report(series, root)
    if series.modality == "RTSTRUCT":
        return make_structure_set(series, root)
    if series.collection_id == "nlst":
        return make_localizer(series)
    return make_slices(series)
