"""The programs that read files for the benchmark: the same for every mount.

Run as a script, by an interpreter without site packages. Each prints one line of JSON:
the seconds that reading took, and the SHA-256 of what was read, which is kept in memory
until the clock has stopped.

    readers.py heads DIRECTORY LENGTH         the first bytes of every file of a directory
    readers.py through FILE LENGTH            a file from front to back, LENGTH at a time
    readers.py again FILE LENGTH PASSES       the same PASSES times, into one piece of memory
    readers.py random FILE LENGTH COUNT READERS ALIGNMENT   COUNT places for each reader
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SEED = 20_250_101
"""Every run and every contestant reads the same places."""


def read_heads(directory: str, length: str) -> dict[str, object]:
    """Read the start of each file in the order in which the directory names them."""
    heads = {}
    started = time.perf_counter()
    with os.scandir(directory) as listing:
        names = [entry.name for entry in listing]
    for name in names:
        file = os.open(f"{directory}/{name}", os.O_RDONLY)
        heads[name] = os.pread(file, int(length), 0)
        os.close(file)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "sha256": digest(heads[name] for name in sorted(heads))}


def read_through(path: str, length: str) -> dict[str, object]:
    """Read a file in pieces."""
    size = Path(path).stat().st_size
    kept = bytearray(b"\1") * size  # the memory is there before the clock starts
    view = memoryview(kept)
    at = 0
    started = time.perf_counter()
    file = os.open(path, os.O_RDONLY)
    while count := os.readv(file, [view[at : at + int(length)]]):
        at += count
    os.close(file)
    seconds = time.perf_counter() - started
    if at != size:
        raise SystemExit(f"{path} ended after {at} of {size} bytes")
    return {"seconds": seconds, "sha256": digest([kept])}


def read_again(path: str, length: str, passes: str) -> dict[str, object]:
    """Read a file in pieces, again and again; `seconds` is the median pass.

    A piece is forgotten for the next one, as a reader at gigabytes a second has to: keeping
    them would time the memory. What is compared comes from one more pass.
    """
    piece = bytearray(int(length))
    took = []
    for _ in range(int(passes)):
        started = time.perf_counter()
        file = os.open(path, os.O_RDONLY)
        while os.readv(file, [piece]):
            pass
        os.close(file)
        took.append(time.perf_counter() - started)
    return {"seconds": sorted(took)[len(took) // 2], "sha256": read_through(path, length)["sha256"]}


def places(size: int, length: int, count: int, reader: int, alignment: int) -> list[int]:
    """Return the offsets that one reader reads."""
    chosen = random.Random(SEED + reader)
    return [chosen.randrange((size - length) // alignment) * alignment for _ in range(count)]


def read_random(
    path: str, length: str, count: str, readers: str, alignment: str
) -> dict[str, object]:
    """Read at random places, several readers at once, each one place after the other."""
    size = Path(path).stat().st_size
    file = os.open(path, os.O_RDONLY)
    chosen = [
        places(size, int(length), int(count), reader, int(alignment))
        for reader in range(int(readers))
    ]
    found: list[list[bytes]] = [[] for _ in chosen]
    latencies: list[float] = []

    def read(reader: int) -> None:
        for offset in chosen[reader]:
            began = time.perf_counter()
            found[reader].append(os.pread(file, int(length), offset))
            latencies.append(time.perf_counter() - began)

    threads = [threading.Thread(target=read, args=[reader]) for reader in range(int(readers))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    os.close(file)
    return {
        "seconds": seconds,
        "latency_s": sorted(latencies)[len(latencies) // 2],
        "sha256": digest(piece for pieces in found for piece in pieces),
    }


def digest(pieces: Iterable[bytes | bytearray]) -> str:
    """Return the SHA-256 of pieces of bytes one after the other."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def main() -> None:
    """Run the reader that the command line names."""
    readers: dict[str, Callable[..., dict[str, object]]] = {
        "heads": read_heads,
        "through": read_through,
        "again": read_again,
        "random": read_random,
    }
    sys.stdout.write(json.dumps(readers[sys.argv[1]](*sys.argv[2:])) + "\n")


if __name__ == "__main__":
    main()
