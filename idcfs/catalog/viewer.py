"""Links to IDC's viewers in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from idcfs.catalog.engine import connect, is_text
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from idcfs.catalog.index import Index

Viewer = Literal["ohif_v2", "ohif_v3", "slim"]

_BASE = "https://viewer.imaging.datacommons.cancer.gov/"
_STUDY: dict[Viewer, str] = {
    "ohif_v2": "viewer/{study}",
    "ohif_v3": "v3/viewer/?StudyInstanceUIDs={study}",
    "slim": "slim/studies/{study}",
}
_SERIES: dict[Viewer, str] = {
    "ohif_v2": "?SeriesInstanceUID={series}",
    "ohif_v3": "&initialSeriesInstanceUID={series}",
    "slim": "/series/{series}",
}


def viewer_url(
    index: Index,
    *,
    series_instance_uid: str | None = None,
    study_instance_uid: str | None = None,
    viewer: Viewer | None = None,
) -> str:
    """Return the link to a series or study; by default Slim for studies with slides, else OHIF.

    Raises UsageError without a UID, for one that the index does not have, for a
    series that is not of the study, and for an unknown viewer.
    """
    if series_instance_uid is None and study_instance_uid is None:
        raise UsageError("say which series or study to view")
    if viewer is not None and viewer not in get_args(Viewer):
        raise UsageError(f"there is no viewer {viewer!r}: choose {', '.join(get_args(Viewer))}")
    study = _find_study(index, series_instance_uid, study_instance_uid)
    chosen: Viewer = viewer or ("slim" if _has_slides(index, study) else "ohif_v3")
    link = _BASE + _STUDY[chosen].format(study=study)
    if series_instance_uid is not None:
        link += _SERIES[chosen].format(series=series_instance_uid)
    return link


def _find_study(index: Index, series: str | None, study: str | None) -> str:
    column, uid = ("StudyInstanceUID", study) if series is None else ("SeriesInstanceUID", series)
    found = []
    if uid is not None and is_text(uid):
        with connect(index) as connection:
            found = connection.execute(
                f"SELECT DISTINCT StudyInstanceUID FROM series WHERE {column} = $1", [uid]
            ).fetchall()
    studies = [each for (each,) in found]
    if not studies:
        word = "study" if series is None else "series"
        raise UsageError(f"no {word} {uid!r} in {index.release}")
    if study is not None and study not in studies:
        raise UsageError(f"the series {series!r} is not of the study {study!r}")
    return str(study or studies[0])


def _has_slides(index: Index, study: str) -> bool:
    with connect(index) as connection:
        found = connection.execute(
            "SELECT bool_or(Modality = 'SM') FROM series WHERE StudyInstanceUID = $1", [study]
        ).fetchall()
    return bool(found[0][0])
