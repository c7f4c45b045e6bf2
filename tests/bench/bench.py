"""What every workload works with: the store, the links, the mounts, and scratch space."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idcfs.demo.server import HOST
from tests.bench.errors import BenchError, UnavailableError
from tests.bench.mounts import mounted, release
from tests.bench.processes import run_well

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.bench.links import Link
    from tests.bench.mounts import MountedTree, MountPeer
    from tests.bench.objects import BenchSeries
    from tests.bench.store import Stored
    from tests.bench.targets import Metrics

LIMIT_S: Final = 300.0
"""No single program takes longer. rclone's slowest workload takes 15 s."""

_DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")
_SPENT: Final = "spent"
_READERS: Final = Path(__file__).with_name("readers.py")


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the benchmark."""

    stored: Stored
    links: Mapping[str, Link]
    mounts: Mapping[str, MountPeer]
    directory: Path
    """On the disk that caches and downloads are to be measured on."""

    @property
    def store_url(self) -> str:
        """The store itself, without any link before it."""
        return f"http://{HOST}:{self.stored.port}"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield an empty directory, of which nothing but names is left afterwards.

        ext4 looks at every inode that was freed in the last minutes before it takes a new one
        (`recently_deleted`): who came after 20,000 deleted files would pay for them. So files
        are emptied, and removed by `clear_away` when all has been measured.
        """
        path = self.directory / "scratch"
        release(path / "mnt")  # should a run before us have been killed
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        # What others wrote must not be on its way to the disk while this one is timed.
        _flush(path)
        try:
            yield path
        finally:
            _empty(path)
            spent = self.directory / _SPENT
            spent.mkdir(exist_ok=True)
            path.rename(Path(tempfile.mkdtemp(dir=spent)) / path.name)

    def clear_away(self) -> None:
        """Remove what the scratch directories have left."""
        shutil.rmtree(self.directory / _SPENT, ignore_errors=True)

    def on_mount(
        self, contestant: str, link_name: str, work: Callable[[MountedTree, Path], Metrics]
    ) -> Metrics:
        """Mount with an empty cache, do `work`, and return its metrics and what it cost."""
        link = self.links[link_name]
        with self.scratch() as scratch:
            mark = link.mark()
            bucket = self.stored.objects.ct.bucket
            with mounted(self.mounts[contestant], link, bucket, scratch) as tree:
                metrics = work(tree, scratch) | tree.costs()
            wire = link.since(mark)
        return metrics | {"wire_bytes": wire.size_bytes, "wire_requests": wire.requests}

    def read(self, scratch: Path, *arguments: object) -> dict[str, float | str]:
        """Run one of the programs of `readers.py` and return what it measured."""
        command = [sys.executable, "-I", "-S", str(_READERS), *map(str, arguments)]
        found: dict[str, float | str] = json.loads(
            run_well(command, scratch=scratch, timeout_s=LIMIT_S).stdout
        )
        return found

    def expected(self, *series: BenchSeries) -> dict[str, str]:
        """Return the SHA-256 of every file of these series by its name."""
        return {name: sha for each in series for name, sha in self.stored.sha256[each.uuid].items()}


def drop_page_cache(scratch: Path) -> None:
    """Have the kernel forget every file's bytes. Raises UnavailableError if it may not."""
    _flush(scratch)
    try:
        _DROP_CACHES.write_text("1")
    except OSError as exc:
        raise UnavailableError(
            f"the page cache cannot be dropped ({exc.strerror}): only root may, and not "
            "in every container"
        ) from exc


def check_files(directory: Path, expected: dict[str, str]) -> None:
    """Compare every file below `directory` with what is stored.

    Raises BenchError if one differs, is missing or is too many.
    """
    missing = dict(expected)
    for parent, _, names in os.walk(directory):
        for name in names:
            with (Path(parent) / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if missing.pop(name, None) != found:
                raise BenchError(f"{parent}/{name} is not what the store holds")
    if missing:
        raise BenchError(f"{len(missing)} files are missing in {directory}")


def expect_equal(what: str, found: object, expected: object) -> None:
    """Raise BenchError unless a contestant read what is stored."""
    if found != expected:
        raise BenchError(f"{what}: {str(found)[:200]!r} instead of {str(expected)[:200]!r}")


def _empty(directory: Path) -> None:
    """Give back the room of every file below."""
    for parent, _, names in os.walk(directory):
        for path in (Path(parent) / name for name in names):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)


def _flush(path: Path) -> None:
    subprocess.run(["sync", "-f", str(path)], check=True, timeout=LIMIT_S)
