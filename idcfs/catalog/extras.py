"""Tables that idc-index-data describes and does not bring: what they are, and which are here.

They lie in a directory of the user's, one for each version of idc-index-data, as Parquet files;
clinical tables, which may have several, in a directory each.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.catalog.index import MAIN_TABLE, PACKAGE, find_package
from idcfs.config import tables_directory
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.catalog.index import Index

CLINICAL = "clinical"
"""The directory of the clinical tables, among the others."""

_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,127}")
_SCHEMA = "_schema.json"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    kind: str
    """As BigQuery calls it: STRING, FLOAT, …; REPEATED ones are lists."""
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table, as idc-index-data describes it."""

    name: str
    description: str
    columns: tuple[Column, ...]
    is_here: bool
    """Whether `query` knows it; else it can be fetched."""


def extras_directory(index: Index) -> Path:
    """Return where the tables of the index's version belong.

    Raises UsageError for an index that is not the package's, and a user without a home.
    """
    if index.release_number is None:
        raise UsageError(f"{index.path} is not of {PACKAGE}: there are no tables for it")
    directory = tables_directory()
    if directory is None:
        raise UsageError("you have no home directory, where tables would be kept: set HOME")
    return directory / index.version


def is_table_name(name: str) -> bool:
    """Tell whether a table can have this name."""
    return _NAME.fullmatch(name) is not None


def find_extras(index: Index) -> dict[str, tuple[Path, ...]]:
    """Return the tables that were fetched, by name, with their files."""
    if index.release_number is None or tables_directory() is None:
        return {}
    directory = extras_directory(index)
    found: dict[str, tuple[Path, ...]] = {
        path.stem: (path,) for path in directory.glob("*.parquet")
    }
    for parts in directory.glob(f"{CLINICAL}/*"):
        if parts.name not in found and (files := tuple(sorted(parts.glob("*.parquet")))):
            found[parts.name] = files
    taken = {"index", MAIN_TABLE, *index.companions}
    return {
        name: files for name, files in found.items() if is_table_name(name) and name not in taken
    }


def list_tables(index: Index) -> list[Table]:
    """Return the tables that idc-index-data describes, and the clinical ones that are here."""
    here = {*index.companions, *find_extras(index)}
    described = {}
    for path in sorted((find_package() or index.path.parent).glob(f"*{_SCHEMA}")):
        name = path.name.removesuffix(_SCHEMA)
        schema = json.loads(path.read_text(encoding="utf-8"))
        columns = tuple(
            Column(each["name"], each["type"], each.get("description") or "")
            for each in schema["columns"]
        )
        text = schema.get("table_description") or ""
        is_main = name == MAIN_TABLE
        described[name] = Table(
            "index" if is_main else name, text, columns, is_main or name in here
        )
    clinical = (Table(name, "a clinical table", (), True) for name in sorted(here))
    return [*described.values(), *(each for each in clinical if each.name not in described)]
