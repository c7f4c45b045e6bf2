"""The replica, built once a machine and served by one SeaweedFS a test session."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from idcfs.demo.replica import Replica, build_replica, fill
from idcfs.demo.server import DirectoryInUseError, EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from idcfs.demo.replica import ReplicaObject
    from idcfs.demo.series import ReplicaSeries


def cache_directory() -> Path:
    """Return where built objects are kept between test runs.

    `IDCFS_TEST_CACHE` says where, else the user's cache directory does.
    """
    chosen = os.environ.get("IDCFS_TEST_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("idcfs-tests"))


@dataclass(frozen=True)
class ServedReplica:
    """The replica's files and the server that holds the same objects."""

    built: Replica
    store: EmbeddedStore

    @property
    def endpoint_url(self) -> str:
        return self.store.endpoint_url

    @property
    def directory(self) -> Path:
        """Holds `<bucket>/<crdc_series_uuid>/<crdc_instance_uuid>.dcm`."""
        return self.built.directory

    @property
    def series(self) -> tuple[ReplicaSeries, ...]:
        return self.built.series

    def one(self, modality: str, *, collection_id: str | None = None) -> ReplicaSeries:
        """Return the first series of this modality (and collection)."""
        return next(
            series
            for series in self.series
            if series.modality == modality and collection_id in (None, series.collection_id)
        )

    def objects_of(self, series: ReplicaSeries) -> tuple[ReplicaObject, ...]:
        return self.built.objects_of(series)


def serve_replica(
    built: Replica, directory: Path, only: Collection[ReplicaSeries] | None = None
) -> Iterator[ServedReplica]:
    """Serve `built` from a server over `directory`, for a fixture to `yield from`."""
    with EmbeddedStore(directory) as store:
        fill(built, store.endpoint_url, only=only)
        yield ServedReplica(built, store)


def serve_shared_replica(built: Replica, spare: Path) -> Iterator[ServedReplica]:
    """Serve `built` from a directory that is kept, filled, for the next test session.

    Another session that runs right now may have it; then a server over `spare` does.
    """
    parent = built.directory.parent
    kept = parent / f"store-{built.directory.name}"
    for other in parent.glob("store-*"):
        if not (parent / other.name.removeprefix("store-")).exists():
            shutil.rmtree(other, ignore_errors=True)
    store = EmbeddedStore(kept)
    try:
        store.start()
    except DirectoryInUseError:
        store = EmbeddedStore(spare)
    with store:
        fill(built, store.endpoint_url)
        yield ServedReplica(built, store)


def build_for_tests() -> Replica:
    """Return the replica's files, from the cache directory if they are there."""
    return build_replica(cache_directory())
