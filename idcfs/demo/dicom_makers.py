"""Which maker makes which series, and as what bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.demo.dicom_common import encode
from idcfs.demo.dicom_slices import make_slices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.demo.series import ReplicaSeries


def make_files(series: ReplicaSeries, root: Path) -> Iterator[bytes]:
    """Yield the DICOM files of `series` in the order of their numbers.

    `root` holds, as `<bucket>/<key>`, the files of the series that this one may refer to.
    """
    for dataset in make_slices(series):
        yield encode(dataset, series.transfer_syntax_uids[0])
