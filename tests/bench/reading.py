"""The workloads over a mount: each reads, checks what it read, and returns what it took."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from tests.bench.bench import LIMIT_S, check_files, drop_page_cache, expect_equal
from tests.bench.downloads import copy_prefix
from tests.bench.errors import BenchError
from tests.bench.processes import run_well
from tests.bench.readers import digest, places

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.bench import Bench
    from tests.bench.mounts import MountedTree
    from tests.bench.targets import Metrics

PLAIN_FILE: Final = "plain file"
"""The contestant that reads the store's own copy of the slide."""

HEAD_BYTES: Final = 65_536
PARALLEL: Final = 8
TILE_BYTES: Final = 256 << 10
TILE_READERS: Final = 4
TILES_EACH: Final = 50
BLOCK_BYTES: Final = 4096
BLOCKS: Final = 4000
CHUNK_BYTES: Final = 1 << 20
PASSES: Final = 9
"""Over one file in the page cache; the median pass counts."""
_UNNOTICED_BYTES: Final = 1 << 20
"""What may cross the link while a cache is read: s3fs asks for an object's attributes."""


def list_long(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time `ls -l` of the CT series."""
    series = bench.stored.objects.ct

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        command = ["ls", "-l", str(tree.directory(series))]
        done = run_well(command, scratch=scratch, timeout_s=LIMIT_S)
        lines = [line.split() for line in done.stdout.splitlines()[1:]]
        found = [(line[-1], int(line[4])) for line in lines]
        expect_equal("ls -l", sorted(found), [(name, series.file_bytes) for name in series.names])
        return {"seconds": done.seconds}

    return bench.on_mount(contestant, link, work)


def copy_series(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time `cp -r` of the CT series to the local disk; s5cmd copies the same prefix."""
    series = bench.stored.objects.ct
    if contestant == "s5cmd":
        return copy_prefix(bench, link, series)

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        copies = scratch / "copies"
        command = ["cp", "-r", str(tree.directory(series)), str(copies)]
        done = run_well(command, scratch=scratch, timeout_s=LIMIT_S)
        check_files(copies, bench.expected(series))
        return {"seconds": done.seconds}

    return bench.on_mount(contestant, link, work)


def copy_in_parallel(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time eight `cp` at once, each of every eighth file of another CT series."""
    series = bench.stored.objects.other_ct

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        copies = scratch / "copies"
        copies.mkdir()
        directory = tree.directory(series)
        shares = [series.names[start::PARALLEL] for start in range(PARALLEL)]
        done = run_well(
            ["xargs", "-P", str(PARALLEL), "-n", str(len(shares[0])), "cp", "-t", str(copies)],
            scratch=scratch,
            timeout_s=LIMIT_S,
            stdin="".join(f"{directory / name}\n" for share in shares for name in share),
        )
        check_files(copies, bench.expected(series))
        return {"seconds": done.seconds}

    return bench.on_mount(contestant, link, work)


def read_heads(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time reading the first 64 KiB of each file of the CT series, one after the other."""
    series = bench.stored.objects.ct
    heads = {series.name(number): series.content(number)[:HEAD_BYTES] for number in series.numbers}

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        found = bench.read(scratch, "heads", tree.directory(series), HEAD_BYTES)
        expect_equal("heads", found["sha256"], digest(heads[name] for name in sorted(heads)))
        return {"seconds": float(found["seconds"])}

    return _with_ratio(bench.on_mount(contestant, link, work), HEAD_BYTES * series.instance_count)


def read_slide(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time reading the slide from front to back, 1 MiB at a time."""
    slide = bench.stored.objects.slide
    if contestant == "s5cmd":
        return copy_prefix(bench, link, slide, slide.name(1)) | {"bytes": slide.file_bytes}

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        seconds = _read_through(bench, scratch, _slide_in(bench, tree))
        return {"seconds": seconds, "bytes": slide.file_bytes}

    return bench.on_mount(contestant, link, work)


def read_tiles(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time four readers that each read 50 tiles of 256 KiB anywhere in the slide."""
    shape = (TILE_BYTES, TILES_EACH, TILE_READERS, 1)
    delay_s = bench.links[link].profile.delay_ms / 1000

    def work(tree: MountedTree, scratch: Path) -> Metrics:
        found = bench.read(scratch, "random", _slide_in(bench, tree), *shape)
        expect_equal("tiles", found["sha256"], _places_sha256(bench, *shape))
        latency_s = float(found["latency_s"])
        return {
            "seconds": float(found["seconds"]),
            "latency_s": latency_s,
            "latency_delays": latency_s / delay_s,
        }

    asked_bytes = TILE_BYTES * TILES_EACH * TILE_READERS
    return _with_ratio(bench.on_mount(contestant, link, work), asked_bytes)


def read_cached(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time reading the slide from the contestant's own cache, with nothing in memory."""
    shape = (BLOCK_BYTES, BLOCKS, 1, BLOCK_BYTES)

    def through(scratch: Path, path: Path) -> Metrics:
        _read_through(bench, scratch, path)
        logged = bench.links[link].log_size()
        drop_page_cache(scratch)
        seconds = _read_through(bench, scratch, path)
        drop_page_cache(scratch)
        blocks = bench.read(scratch, "random", path, *shape)
        expect_equal("blocks", blocks["sha256"], _places_sha256(bench, *shape))
        fetched = bench.links[link].logged(logged).size_bytes
        if fetched > _UNNOTICED_BYTES:
            raise BenchError(f"{fetched:,} bytes came over the link, not from the cache")
        return {
            "seconds": seconds,
            "bytes": bench.stored.objects.slide.file_bytes,
            "random_seconds": float(blocks["seconds"]),
            "random_reads": BLOCKS,
        }

    if contestant == PLAIN_FILE:
        with bench.scratch() as scratch:
            metrics = through(scratch, bench.stored.slide_path)
    else:
        metrics = bench.on_mount(
            contestant, link, lambda tree, scratch: through(scratch, _slide_in(bench, tree))
        )
    bench.stored.warm()  # the store's files were dropped with all others
    return metrics


def reread(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time reading the slide again and again while the kernel has all of it in memory."""
    slide = bench.stored.objects.slide

    def through(scratch: Path, path: Path) -> Metrics:
        _read_through(bench, scratch, path)
        found = bench.read(scratch, "again", path, CHUNK_BYTES, PASSES)
        expect_equal("the slide", found["sha256"], bench.expected(slide)[slide.name(1)])
        return {"seconds": float(found["seconds"]), "bytes": slide.file_bytes}

    if contestant == PLAIN_FILE:
        with bench.scratch() as scratch:
            return through(scratch, bench.stored.slide_path)
    return bench.on_mount(
        contestant, link, lambda tree, scratch: through(scratch, _slide_in(bench, tree))
    )


def _read_through(bench: Bench, scratch: Path, path: Path) -> float:
    """Read the slide, compare it with what is stored, and return the seconds it took."""
    slide = bench.stored.objects.slide
    found = bench.read(scratch, "through", path, CHUNK_BYTES)
    expect_equal("the slide", found["sha256"], bench.expected(slide)[slide.name(1)])
    return float(found["seconds"])


def _slide_in(bench: Bench, tree: MountedTree) -> Path:
    slide = bench.stored.objects.slide
    return tree.directory(slide) / slide.name(1)


def _places_sha256(bench: Bench, length: int, count: int, readers: int, alignment: int) -> str:
    total = hashlib.sha256()
    size = bench.stored.objects.slide.file_bytes
    with bench.stored.slide_path.open("rb") as file:
        for reader in range(readers):
            for offset in places(size, length, count, reader, alignment):
                file.seek(offset)
                total.update(file.read(length))
    return total.hexdigest()


def _with_ratio(metrics: Metrics, asked_bytes: int) -> Metrics:
    return metrics | {"wire_ratio": metrics["wire_bytes"] / asked_bytes}
