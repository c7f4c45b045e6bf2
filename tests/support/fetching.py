"""A process that fetches objects through a cache, for tests to kill: prefetching or reading.

    python -m tests.support.fetching prefetch|read ENDPOINT CACHE SEED < OBJECTS

Each line of OBJECTS is a bucket, series, name, size and MD5, separated by spaces. Ends
with status 0 when every object is in the cache, or enough was read; 3 on a wrong byte.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import trio

from idcfs.cache import DiskCache, units
from idcfs.fetch import Fetcher
from idcfs.model import Extent, Instance, ObjectRef, SeriesUUID
from idcfs.store.s3 import S3Store

UNITS = {"WHOLE_LIMIT_BYTES": 200_000, "UNIT_BYTES": 64 << 10, "BLOCK_BYTES": 16 << 10}
"""Small ones, so that a few megabytes have both kinds of objects, and many parts."""

_READS = 2000
_TASKS = 6


def write_line(ref: ObjectRef) -> str:
    """Return the line that tells a process of an object."""
    one = ref.instance
    return f"{ref.bucket} {ref.series} {one.name} {one.size_bytes} {one.etag}"


def read_line(line: str) -> ObjectRef:
    """Return the object that a line tells of."""
    bucket, series, name, size, etag = line.split()
    return ObjectRef(bucket, SeriesUUID(series), Instance(name, int(size), 0, etag))


async def fetch(mode: str, store: S3Store, cache: DiskCache, refs: list[ObjectRef]) -> None:
    """Have several tasks prefetch, or read here and there."""
    waiting = iter(refs)

    async def prefetch_some() -> None:
        for ref in waiting:
            await fetcher.ensure(ref)

    async def read_some() -> None:
        for _ in range(_READS // _TASKS):
            ref = random.choice(refs)
            reader = fetcher.open(ref)
            offset = random.randrange(ref.instance.size_bytes)
            length = min(random.randrange(1, 1 << 17), ref.instance.size_bytes - offset)
            got = await reader.read(Extent(offset, length))
            assert len(got) == length
            fetcher.close_reader(reader)

    async with trio.open_nursery() as services:
        fetcher = Fetcher(store=store, cache=cache, nursery=services)
        async with trio.open_nursery() as tasks:
            for _ in range(_TASKS):
                tasks.start_soon(prefetch_some if mode == "prefetch" else read_some)
        fetcher.close()


def main(mode: str, endpoint_url: str, cache_dir: str, seed: str) -> None:
    """Run until everything is done, or the process is killed."""
    for name, value in UNITS.items():
        setattr(units, name, value)
    random.seed(int(seed))
    refs = [read_line(line) for line in sys.stdin]
    random.shuffle(refs)
    store, cache = S3Store(endpoint_url=endpoint_url), DiskCache(Path(cache_dir))
    try:
        trio.run(fetch, mode, store, cache, refs)
    finally:
        store.close()
        cache.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
