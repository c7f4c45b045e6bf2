"""The front of the Python API: an index, and what can be asked of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from idcfs.api.files import Remote
from idcfs.api.query import Query
from idcfs.api.selection import Selection
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.extras import list_tables
from idcfs.catalog.instances import find_instance
from idcfs.catalog.selection import Selection as Predicate
from idcfs.catalog.viewer import viewer_url
from idcfs.config import cache_directory
from idcfs.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from idcfs.api.files import File
    from idcfs.catalog.extras import Table
    from idcfs.catalog.selection import AnalysisResults
    from idcfs.catalog.viewer import Viewer
    from idcfs.store.endpoint import Source

    Values = str | Iterable[str] | None


class Index:
    """An IDC index: selections, SQL and viewer links, without a network.

    `path` is another `idc_index.parquet` than the installed one. The other arguments say
    where files come from, and the cache that they go through: `source` is the public copy
    that is read, `endpoint_url` another S3 server. Opening takes some milliseconds. Raises
    IndexFileError if there is no index.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        source: Source = "aws",
        endpoint_url: str | None = None,
    ) -> None:
        self._catalog = Catalog.open(Path(path) if path is not None else None)
        directory = Path(cache_dir) if cache_dir is not None else cache_directory()
        self._remote = Remote(directory.absolute(), endpoint_url, source)

    @property
    def release(self) -> str:
        """What the index is: `IDC v25`, or the file."""
        return self._catalog.index.release

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the index, which `where` and templates may use."""
        return self._catalog.columns()

    def select(
        self,
        *identifiers: str,
        collection_id: Values = None,
        patient_id: Values = None,
        study_instance_uid: Values = None,
        series_instance_uid: Values = None,
        crdc_series_uuid: Values = None,
        analysis_result_id: Values = None,
        modality: Values = None,
        analysis_results: AnalysisResults = "include",
        where: str | None = None,
    ) -> Selection:
        """Return the series that are meant; without any argument, the whole index.

        Identifiers are collections, analysis results, patients, studies or series, and add
        up; every other argument narrows. Of the five from `collection_id` to
        `crdc_series_uuid` the most specific decides, as in idc-index. `where` is an SQL
        condition over `columns`. Raises UsageError for a value that nothing has,
        which names the nearest ones; that nothing has all of them gives an empty selection.
        """
        rows = self._identified(identifiers) if identifiers else None
        predicate = Predicate(
            collection_id=_values("collection_id", collection_id),
            patient_id=_values("patient_id", patient_id),
            study_instance_uid=_values("study_instance_uid", study_instance_uid),
            series_instance_uid=_values("series_instance_uid", series_instance_uid),
            crdc_series_uuid=_values("crdc_series_uuid", crdc_series_uuid),
            analysis_result_id=_values("analysis_result_id", analysis_result_id),
            modality=_values("modality", modality),
            analysis_results=analysis_results,
            where=where,
            rows=rows,
        )
        return Selection(self._catalog, self._remote, self._catalog.find(predicate))

    def select_sql(self, sql: str) -> Selection:
        """Return the series that an SQL query names.

        It must have a column `crdc_series_uuid`, which may name series of earlier
        releases, or `SeriesInstanceUID`. Raises UsageError if it has neither, fails, or
        names a series that there is not.
        """
        return Selection(self._catalog, self._remote, self._catalog.rows_of_query(sql))

    def read_manifest(self, path: str | os.PathLike[str]) -> Selection:
        """Return the series of a manifest: `s3://` lines, or commands of s5cmd.

        Raises UsageError, with the first lines that are wrong, if any is.
        """
        manifest = self._catalog.read_manifest(Path(path))
        if manifest.problems:
            told = [f"line {each.line}: {each.reason}" for each in manifest.problems[:5]]
            left = len(manifest.problems) - len(told)
            raise UsageError(f"{path}: {'; '.join(told)}" + (f"; and {left:,} more" * bool(left)))
        return Selection(self._catalog, self._remote, manifest.rows)

    def query(self, sql: str) -> Query:
        """Return the answer to one SELECT over the index's tables, once it is asked for.

        They are `index`, `prior_versions_index`, `collections_index`,
        `analysis_results_index` and `version_metadata_index`, built as in idc-index.
        """
        return Query(self._catalog.index, sql)

    def tables(self) -> list[Table]:
        """Return the tables that there are for this release: names, columns, and whether here."""
        return list_tables(self._catalog.index)

    def fetch_table(self, name: str) -> None:
        """Fetch a table that idc-index-data does not bring, so that `query` has it.

        `clinical_index` brings the clinical tables with it. Raises UsageError for a table that
        there is not, or that is here; IdcfsError if it cannot be fetched.
        """
        from idcfs.tables.fetch import CLINICAL_INDEX, fetch_clinical, fetch_table

        if name == CLINICAL_INDEX:  # before it, so that it is not here until they are
            with closing(self._remote.new_store()) as store:
                fetch_clinical(self._catalog.index, store)
        fetch_table(self._catalog.index, name)

    def file(self, sop_instance_uid: str) -> File:
        """Return one file, by its SOPInstanceUID: of slides, of which there is a table.

        Raises UsageError if `sm_instance_index` is not here, or has no such file; StoreError.
        """
        row, name = find_instance(self._catalog.index, sop_instance_uid)
        ((series, _),) = self._catalog.series_paths([row], "")
        return self._remote.file(series, name)

    def viewer_url(
        self,
        *,
        series_instance_uid: str | None = None,
        study_instance_uid: str | None = None,
        viewer: Viewer | Literal["auto"] = "auto",
    ) -> str:
        """Return the link to a series or study in IDC's viewers: `ohif_v3` or `slim`.

        By default slides are shown in Slim and everything else in OHIF. Raises UsageError
        for a UID that the index does not have.
        """
        return viewer_url(
            self._catalog.index,
            series_instance_uid=series_instance_uid,
            study_instance_uid=study_instance_uid,
            viewer=None if viewer == "auto" else viewer,
        )

    def close(self) -> None:
        """End what reads files, if anything does. Files that are open cannot be read then."""
        self._remote.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<idcfs.Index of {self.release}>"

    def _identified(self, identifiers: tuple[str, ...]) -> tuple[int, ...]:
        rows, unmatched = self._catalog.resolve_identifiers(_values("identifiers", identifiers))
        if unmatched:
            raise UsageError(self._catalog.tell(unmatched))
        return tuple(rows)


def _values(name: str, values: Values) -> tuple[str, ...]:
    """Return one or several values as a tuple. Raises UsageError if there are none."""
    if values is None:
        return ()
    several: tuple[object, ...] = (values,) if isinstance(values, str) else tuple(values)
    texts = tuple(each for each in several if isinstance(each, str) and each)
    if not texts or len(texts) < len(several):
        raise UsageError(f"{name} takes text, or several texts, not {values!r:.80}")
    return texts
