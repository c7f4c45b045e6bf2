"""Builds the objects of the replica, keeps them, and puts them into an S3 server.

The built files lie under `<directory>/replica-<recipe>/<bucket>/<key>`, where the
recipe is a digest of everything that decides their bytes: the makers' source, the
facts and the versions of the libraries. A build happens in a directory of another
name that is renamed when it is whole, so what is there is always complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idcfs.demo.s3http import Connection
from idcfs.demo.series import ReplicaSeries, replica_series
from idcfs.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_MANIFEST: Final = "objects.json"

_LIBRARIES: Final = ("pydicom", "highdicom", "numpy", "pillow")

_STALE_S: Final = 6 * 3600.0
"""Files of another recipe are removed once nobody asked for them this long."""

_WORKERS: Final = 4
"""Threads that build and upload. numpy, JPEG and sockets all let others run."""


@dataclass(frozen=True, slots=True)
class ReplicaObject:
    """One object: where it is stored, and the file that holds its bytes."""

    series: ReplicaSeries
    number: int
    """The Instance Number, from 1."""
    path: Path
    size_bytes: int
    md5: str

    @property
    def bucket(self) -> str:
        """The bucket it belongs in."""
        return self.series.bucket

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return self.series.key(self.number)

    @property
    def name(self) -> str:
        """Its file name, `<crdc_instance_uuid>.dcm`."""
        return f"{self.series.instance_uuid(self.number)}.dcm"

    @property
    def url(self) -> str:
        """Its `s3://` URL."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Replica:
    """The built objects, on disk."""

    directory: Path
    """Holds `<bucket>/<crdc_series_uuid>/<crdc_instance_uuid>.dcm`."""
    objects: tuple[ReplicaObject, ...]

    @property
    def series(self) -> tuple[ReplicaSeries, ...]:
        """Every series, ordered as in `replica_series`."""
        return replica_series()

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of the buckets, sorted."""
        return tuple(sorted({series.bucket for series in self.series}))

    @property
    def size_bytes(self) -> int:
        """The bytes of all objects."""
        return sum(item.size_bytes for item in self.objects)

    def objects_of(self, series: ReplicaSeries) -> tuple[ReplicaObject, ...]:
        """Return the objects of one series in the order of their numbers."""
        return tuple(item for item in self.objects if item.series == series)

    def directory_of(self, series: ReplicaSeries) -> Path:
        """Return the directory that holds the files of one series, and nothing else."""
        return self.directory / series.bucket / series.uuid


def build_replica(
    directory: Path, *, progress: Callable[[ReplicaSeries], None] | None = None
) -> Replica:
    """Return the replica in `directory`, building it if it is not there.

    `progress` is called with each series that is about to be made, from any of
    several threads. Processes that build at once wait for one another and share the
    outcome. Raises StoreError if the libraries of `idcfs[demo]` are missing, or the
    directory cannot be written and does not hold the replica.
    """
    home = directory.resolve() / f"replica-{_recipe()}"
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with (home.parent / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / _MANIFEST).is_file():
                _build_into(home, progress)
            os.utime(home / _MANIFEST)  # still in use
            _remove_stale(home)
    except OSError as exc:
        # Another user's directory, or a read-only one, serves as well if all is there.
        if not (home / _MANIFEST).is_file():
            raise StoreError(f"the replica cannot be built in {directory}: {exc}") from exc
    return _load(home)


def fill(
    replica: Replica,
    endpoint_url: str,
    *,
    only: Collection[ReplicaSeries] | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Put the objects into the server at `endpoint_url` and return how many were sent.

    `only` names the series to put; None means all. All buckets are created in any
    case. An object that is there with its size and MD5 is left alone. `progress` is
    called with the bytes of each object when it is stored, from several threads.
    Raises StoreError if the server refuses one or stores something else.
    """
    with Connection(endpoint_url) as connection:
        for bucket in replica.buckets:
            connection.create_bucket(bucket)
        there = {
            (bucket, key): facts
            for bucket in replica.buckets
            for key, facts in connection.list_objects(bucket).items()
        }
    missing = [
        item
        for item in replica.objects
        if (only is None or item.series in only)
        and there.get((item.bucket, item.key)) != (item.size_bytes, item.md5)
    ]
    # Each worker sends a share of the bytes over one connection of its own.
    missing.sort(key=lambda item: item.size_bytes, reverse=True)
    shares = [missing[start::_WORKERS] for start in range(_WORKERS)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        for done in [pool.submit(_send, share, endpoint_url, progress) for share in shares]:
            done.result()
    return len(missing)


def _send(
    share: list[ReplicaObject], endpoint_url: str, progress: Callable[[int], None] | None
) -> None:
    with Connection(endpoint_url) as connection:
        for item in share:
            with item.path.open("rb") as content:
                etag = connection.put_object(item.bucket, item.key, content, item.size_bytes)
            if etag != item.md5:
                raise StoreError(f"{item.url} was stored with ETag {etag}, not its MD5 {item.md5}")
            if progress is not None:
                progress(item.size_bytes)


def _recipe() -> str:
    """Return a digest of everything that decides the objects' bytes."""
    digest = hashlib.sha256()
    sources = [source for source in files("idcfs.demo").iterdir() if source.is_file()]
    for source in sorted(sources, key=lambda source: source.name):
        if source.name.startswith(("dicom_", "phantom", "series", "slide")):
            digest.update(source.name.encode() + source.read_bytes())
    for library in _LIBRARIES:
        try:
            digest.update(f"{library} {version(library)}".encode())
        except PackageNotFoundError as exc:
            raise StoreError(
                f"building the replica needs {library}: install it with: pip install 'idcfs[demo]'"
            ) from exc
    return digest.hexdigest()[:12]


def _build_into(home: Path, progress: Callable[[ReplicaSeries], None] | None) -> None:
    """Build everything beside `home` and rename it there when it is whole."""
    with tempfile.TemporaryDirectory(prefix=".building-", dir=home.parent) as scratch:
        root = Path(scratch) / "replica"
        facts: dict[str, list[dict[str, str | int]]] = {}
        with ThreadPoolExecutor(_WORKERS) as pool:
            for wave in _waves():
                built = pool.map(partial(_build_series, root, progress=progress), wave)
                facts.update(zip((series.uuid for series in wave), built, strict=True))
        (root / _MANIFEST).write_text(json.dumps(facts, indent=1))
        shutil.rmtree(home, ignore_errors=True)  # without a manifest: not ours to trust
        root.rename(home)


def _waves() -> tuple[list[ReplicaSeries], ...]:
    """Return the series in two waves: pictures first, then what refers to pictures."""
    derived = ("SEG", "SR", "RTSTRUCT")
    pictures = [series for series in replica_series() if series.modality not in derived]
    # The longest first, so that it does not end the build alone.
    pictures.sort(key=lambda series: (series.modality != "SM", -series.instance_count))
    segmentations = [series for series in replica_series() if series.modality == "SEG"]
    rest = [series for series in replica_series() if series.modality in ("SR", "RTSTRUCT")]
    return pictures, segmentations, rest


def _build_series(
    root: Path, series: ReplicaSeries, *, progress: Callable[[ReplicaSeries], None] | None
) -> list[dict[str, str | int]]:
    # pydicom and numpy are for those who build; a replica that is there needs neither.
    from idcfs.demo.dicom_common import write
    from idcfs.demo.dicom_makers import make_objects

    if progress is not None:
        progress(series)
    facts: list[dict[str, str | int]] = []
    directory = root / series.bucket / series.uuid
    directory.mkdir(parents=True)
    for number, (dataset, transfer_syntax_uid) in enumerate(make_objects(series, root), start=1):
        path = root / series.bucket / series.key(number)
        write(dataset, transfer_syntax_uid, path)
        with path.open("rb") as content:
            md5 = hashlib.file_digest(content, "md5").hexdigest()
        facts.append({"size_bytes": path.stat().st_size, "md5": md5})
    if len(facts) != series.instance_count:
        raise StoreError(
            f"{series.uuid}: {len(facts)} objects were made, the index says {series.instance_count}"
        )
    return facts


def _load(home: Path) -> Replica:
    facts = json.loads((home / _MANIFEST).read_text())
    objects = tuple(
        ReplicaObject(
            series=series,
            number=number,
            path=home / series.bucket / series.key(number),
            size_bytes=int(fact["size_bytes"]),
            md5=str(fact["md5"]),
        )
        for series in replica_series()
        for number, fact in enumerate(facts[series.uuid], start=1)
    )
    return Replica(directory=home, objects=objects)


def _remove_stale(home: Path) -> None:
    """Remove what other recipes built and nobody used for hours, and builds that were cut off."""
    for other in home.parent.glob("replica-*"):
        marker = other / _MANIFEST
        age_s = time.time() - (marker if marker.is_file() else other).stat().st_mtime
        if other != home and age_s > _STALE_S:
            shutil.rmtree(other, ignore_errors=True)
    for scratch in home.parent.glob(".building-*"):  # we hold the lock: nobody is building
        shutil.rmtree(scratch, ignore_errors=True)
