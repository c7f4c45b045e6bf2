"""One table after the other, by HTTPS from where idc-index-data is released."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from idcfs.catalog.extras import CLINICAL, extras_directory, is_table_name, list_tables
from idcfs.errors import IdcfsError, UsageError
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.catalog.index import Index
    from idcfs.store import ObjectStore, StoredObject

RELEASES = "https://github.com/ImagingDataCommons/idc-index-data/releases/download"

CLINICAL_INDEX = "clinical_index"
"""The table of clinical tables; they are fetched with it, as idc-index does."""

_CLINICAL_BUCKET = "idc-open-metadata"
_TIMEOUT_S = 30.0
_MAGIC = b"PAR1"


def fetch_table(index: Index, name: str, *, releases_url: str = RELEASES) -> Path:
    """Fetch a table for the index's version, and return its file.

    Raises UsageError for a table that there is not, or that is here; IdcfsError if it cannot
    be fetched, or written.
    """
    known = {table.name: table for table in list_tables(index)}
    if name not in known:
        raise UsageError(f"there is no table {name}: `idcfs tables` lists them")
    if known[name].is_here:
        raise UsageError(f"the table {name} is here already")
    url = f"{releases_url.rstrip('/')}/{index.version}/{name}.parquet"
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"{releases_url!r} is not the URL of a place to fetch from")
    target = extras_directory(index) / f"{name}.parquet"
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response,
            _appearing(target) as file,
        ):
            shutil.copyfileobj(response, file)
    except (OSError, HTTPException) as exc:  # URLError is an OSError
        reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc
        raise IdcfsError(
            f"cannot fetch {url} ({reason}); what was fetched elsewhere belongs to {target}"
        ) from exc
    return target


def fetch_clinical(index: Index, store: ObjectStore) -> list[str]:
    """Fetch the clinical tables of the index's release, and return their names.

    Raises StoreError, or IdcfsError if they cannot be written.
    """
    directory = extras_directory(index) / CLINICAL
    prefix = f"bigquery_export/idc_v{index.release_number}_clinical/"
    names = set()
    for stored in store.list_prefix(_CLINICAL_BUCKET, prefix):
        table, _, file_name = stored.key.removeprefix(prefix).partition("/")
        if not is_table_name(table) or not file_name.endswith(".parquet") or "/" in file_name:
            continue
        _fetch_object(store, stored, directory / table / file_name)
        names.add(table)
    return sorted(names)


def _fetch_object(store: ObjectStore, stored: StoredObject, target: Path) -> None:
    try:
        with _appearing(target) as file:
            store.get_extent(
                _CLINICAL_BUCKET,
                stored.key,
                Extent(0, stored.size_bytes),
                lambda chunk: _write(file, chunk),
                etag=stored.etag,
            )
    except OSError as exc:
        raise IdcfsError(f"cannot write {target}: {exc.strerror}") from exc


def _write(file: BinaryIO, chunk: memoryview) -> None:
    file.write(chunk)


@contextmanager
def _appearing(target: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name once it is a whole Parquet file. Raises IdcfsError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            _check(file, target)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _check(file: BinaryIO, target: Path) -> None:
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(size_bytes - len(_MAGIC), 0))
    if size_bytes < 12 or file.read() != _MAGIC:
        raise IdcfsError(f"what came for {target.name} is no Parquet file, or not a whole one")
