"""Where the index lies, and which release it is.

Finds the Parquet files of the installed `idc-index-data` without importing the
package, whose import loads every schema and takes longer than opening a layout.
Nothing here needs DuckDB: a compiled layout is opened without it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.errors import IndexFileError

if TYPE_CHECKING:
    from typing import BinaryIO

PACKAGE = "idc-index-data"
MAIN_TABLE = "idc_index"
COMPANION_TABLES = (
    "prior_versions_index",
    "collections_index",
    "analysis_results_index",
    "version_metadata_index",
)

_PARQUET_MAGIC = b"PAR1"
# Below this a file is hashed whole, which takes some milliseconds. Above it, the footer
# (with every column's statistics and offsets), the size and samples tell releases apart.
_HASH_WHOLE_BYTES = 8 * 1024 * 1024
_SAMPLES = 256
_SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Index:
    """An IDC index on disk: the main table, its companions and what identifies them."""

    path: Path
    """`idc_index.parquet`, or the file that stands in for it."""
    companions: dict[str, Path]
    """The other tables that exist, by name."""
    version: str
    """The version of `idc-index-data`, or name and fingerprint of another file."""

    @classmethod
    def open(cls, path: Path | None = None) -> Index:
        """Find the index: `path`, or the one that `idc-index-data` brings.

        Companion tables are taken from beside `path` where they exist, else from the
        package. Raises IndexFileError if there is no index or `path` is not a Parquet file.
        """
        package = find_package()
        if path is None:
            if package is None:
                raise IndexFileError(
                    f"the package {PACKAGE} is not installed: pip install {PACKAGE}"
                )
            main = package / f"{MAIN_TABLE}.parquet"
        else:
            main = path.absolute()
        fingerprint = _fingerprint(main)
        companions = _find_companions(main, package)
        index = cls(main, companions, _version(main, package, fingerprint))
        index.__dict__["fingerprint"] = fingerprint
        return index

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits that follow from the content: equal files share their layouts."""
        return _fingerprint(self.path)

    @cached_property
    def prior_fingerprint(self) -> str:
        """The fingerprint of the table of earlier releases; "" where there is none."""
        prior = self.companions.get("prior_versions_index")
        return _fingerprint(prior) if prior else ""

    @property
    def release(self) -> str:
        """How messages name the index: "IDC v25", or the file."""
        major = self.version.split(".")[0]
        return f"IDC v{major}" if major.isdigit() else f"the index {self.path}"

    @property
    def release_number(self) -> int | None:
        """The IDC release, such as 25; None for a file that is not the package's."""
        major = self.version.split(".")[0]
        return int(major) if major.isdigit() else None


def find_package() -> Path | None:
    """Return the directory of the installed `idc_index_data`, without importing it."""
    from importlib.util import find_spec  # slow enough to be worth leaving to the call

    spec = find_spec("idc_index_data")
    if spec is None:
        return None
    for directory in spec.submodule_search_locations or ():
        if (Path(directory) / f"{MAIN_TABLE}.parquet").is_file():
            return Path(directory)
    raise IndexFileError(
        f"the package {PACKAGE} is installed without {MAIN_TABLE}.parquet: "
        f"pip install --force-reinstall {PACKAGE}"
    )


def _find_companions(main: Path, package: Path | None) -> dict[str, Path]:
    found = {}
    for table in COMPANION_TABLES:
        for directory in (main.parent, package):
            candidate = directory / f"{table}.parquet" if directory else None
            if candidate is not None and candidate.is_file():
                found[table] = candidate
                break
    return found


def _version(main: Path, package: Path | None, fingerprint: str) -> str:
    if package is not None:
        packaged = package / main.name
        if main == packaged or (packaged.is_file() and _fingerprint(packaged) == fingerprint):
            return _installed_version(package)
    return f"{main.name}@{fingerprint[:8]}"


def _installed_version(package: Path) -> str:
    """Return the package's version, from the name of its metadata's directory where it has one.

    importlib.metadata, which parses the metadata, takes longer than all else here together.
    """
    stem = package.name
    beside = [path.name for path in package.parent.glob(f"{stem}-*.dist-info")]
    if len(beside) == 1:
        return beside[0].removeprefix(f"{stem}-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version(PACKAGE)


def _fingerprint(path: Path) -> str:
    """Hash what identifies the Parquet file at `path`. Raises IndexFileError if it is not one."""
    try:
        with path.open("rb") as file:
            return _hash_parquet(file, path)
    except OSError as exc:
        raise IndexFileError(f"cannot read the index {path}: {exc.strerror}") from exc


def _hash_parquet(file: BinaryIO, path: Path) -> str:
    size = file.seek(0, 2)
    tail = b""
    if size >= 12:
        file.seek(size - 8)
        tail = file.read(8)
    footer_bytes = int.from_bytes(tail[:4], "little")
    if tail[4:] != _PARQUET_MAGIC or footer_bytes > size - 12:
        raise IndexFileError(
            f"{path} is not an IDC index: it is not a Parquet file (or not a whole one)"
        )
    digest = hashlib.sha256(str(size).encode())
    if size <= _HASH_WHOLE_BYTES:
        file.seek(0)
        digest.update(file.read())
        return digest.hexdigest()[:32]
    file.seek(size - 8 - footer_bytes)
    digest.update(file.read(footer_bytes))
    for sample in range(_SAMPLES):
        file.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
        digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]
