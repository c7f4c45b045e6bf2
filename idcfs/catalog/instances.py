"""Single files by their SOPInstanceUID, where a table tells of instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.catalog.engine import connect, quote
from idcfs.catalog.extras import find_extras
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from idcfs.catalog.index import Index

TABLE = "sm_instance_index"
"""The only table of instances that IDC publishes: those of slides."""


def find_instance(index: Index, sop_instance_uid: str) -> tuple[int, str]:
    """Return the index row of an instance's series, and the name of its file.

    Raises UsageError if the table is not here, or has no such instance.
    """
    files = find_extras(index).get(TABLE)
    if files is None:
        raise UsageError(
            f"SOPInstanceUIDs are in the table {TABLE}, which is not here: "
            f"`idcfs tables --fetch {TABLE}`"
        )
    source = ", ".join(quote(str(path)) for path in files)
    with connect(index) as connection:
        found = connection.execute(
            "SELECT idcfs_row, name FROM series JOIN (SELECT SeriesInstanceUID, "
            f"CAST(crdc_instance_uuid AS VARCHAR) AS name FROM read_parquet([{source}]) "
            "WHERE SOPInstanceUID = ?) USING (SeriesInstanceUID)",
            [sop_instance_uid],
        ).fetchone()
    if found is None:
        raise UsageError(f"{TABLE} has no SOPInstanceUID {sop_instance_uid!r:.100}")
    row, name = found
    return int(row), f"{name}.dcm"
