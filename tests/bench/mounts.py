"""The mounts that are compared: idcfs, rclone and s3fs, each as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from tests.bench.errors import BenchError
from tests.bench.processes import (
    Guarded,
    cpu_s,
    environment,
    idcfs_command,
    peak_bytes,
    run_well,
    tool,
)
from tests.support.mounting import mount_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.links import Link
    from tests.bench.objects import BenchSeries

_BARE: Final = Path(__file__).with_name("bare.py")
_MOUNT_S: Final = 60.0
_POLL_S: Final = 0.01

BARE: Final = "pyfuse3 alone"

STREAMS_OPTIONS: Final = ("--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M")


@dataclass(frozen=True, slots=True)
class MountCommand:
    """How to start a mount in the foreground, and where a series is below it."""

    command: list[str]
    environment: dict[str, str]
    by_uuid: bool = True
    """Whether its root has a directory for each series UUID, as the bucket has."""


class MountPeer(Protocol):
    """One program that mounts."""

    def command(self, link: Link, bucket: str, path: Path, scratch: Path) -> MountCommand:
        """Return how to mount `bucket` through `link` at `path`, its cache in `scratch`.

        Raises UnavailableError if the program is not installed.
        """


@dataclass(frozen=True, slots=True)
class Idcfs:
    """idcfs over the whole index, whose layout was compiled before."""

    layouts: Path

    def command(self, link: Link, bucket: str, path: Path, scratch: Path) -> MountCommand:
        """Return how to mount."""
        cache = scratch / "cache"
        cache.mkdir()
        (cache / "layouts").symlink_to(self.layouts)
        options = (f"--endpoint-url={link.url}", f"--cache-dir={cache}")
        command = idcfs_command("mount", "--foreground", *options, str(path))
        return MountCommand(command, environment(scratch), by_uuid=False)


@dataclass(frozen=True, slots=True)
class Rclone:
    """`rclone mount` with its full cache, as its manual recommends for reading."""

    options: tuple[str, ...] = ()

    def command(self, link: Link, bucket: str, path: Path, scratch: Path) -> MountCommand:
        """Return how to mount."""
        command = [
            *(tool("rclone"), "mount", f"idc:{bucket}", str(path), "--read-only"),
            *("--vfs-cache-mode", "full", "--cache-dir", str(scratch / "cache"), *self.options),
        ]
        remote = {
            "RCLONE_CONFIG": "",
            "RCLONE_CONFIG_IDC_TYPE": "s3",
            "RCLONE_CONFIG_IDC_PROVIDER": "Other",
            "RCLONE_CONFIG_IDC_ENDPOINT": link.url,
            "RCLONE_CONFIG_IDC_FORCE_PATH_STYLE": "true",
        }
        return MountCommand(command, environment(scratch) | remote)


@dataclass(frozen=True, slots=True)
class S3fs:
    """`s3fs` with a cache on disk."""

    def command(self, link: Link, bucket: str, path: Path, scratch: Path) -> MountCommand:
        """Return how to mount."""
        options = (
            f"url={link.url},use_path_request_style,public_bucket=1,ro,"
            f"use_cache={scratch / 'cache'}"
        )
        command = [tool("s3fs"), bucket, str(path), "-f", "-o", options]
        return MountCommand(command, environment(scratch))


@dataclass(frozen=True, slots=True)
class Bare:
    """The store's own copy of the slide, through pyfuse3 and nothing else: see `bare`."""

    slide: Path

    def command(self, link: Link, bucket: str, path: Path, scratch: Path) -> MountCommand:
        """Return how to mount; nothing comes over a link."""
        command = [sys.executable, str(_BARE), str(self.slide), str(path)]
        return MountCommand(command, environment(scratch))


def mount_peers(layouts: Path, slide: Path) -> dict[str, MountPeer]:
    """Return every mount by the name that the tables give it."""
    return {
        "idcfs": Idcfs(layouts),
        BARE: Bare(slide),
        "rclone": Rclone(),
        "rclone 16×4M": Rclone(STREAMS_OPTIONS),
        "s3fs": S3fs(),
    }


@dataclass(frozen=True, slots=True)
class MountedTree:
    """A mount that answers."""

    root: Path
    pid: int
    by_uuid: bool

    def directory(self, series: BenchSeries) -> Path:
        """Return the directory that holds the files of `series`."""
        return self.root / (series.uuid if self.by_uuid else series.tree_path)

    def costs(self) -> dict[str, float]:
        """Return what the daemon has taken so far."""
        return {"daemon_bytes": peak_bytes(self.pid), "daemon_cpu_s": cpu_s(self.pid)}


@contextmanager
def mounted(peer: MountPeer, link: Link, bucket: str, scratch: Path) -> Iterator[MountedTree]:
    """Mount for a `with` block. Neither daemon nor mount outlives it.

    Raises UnavailableError if the program is not there, BenchError if it does not mount.
    """
    path = scratch / "mnt"
    path.mkdir()
    start = peer.command(link, bucket, path, scratch)
    daemon = Guarded(start.command, log_path=scratch / "mount.log", env=start.environment)
    try:
        _wait_until_mounted(daemon, path, start.command[0])
        yield MountedTree(path, daemon.pid, start.by_uuid)
    finally:
        daemon.stop()
        release(path)


@contextmanager
def detached(link: Link, scratch: Path, cache: Path) -> Iterator[Path]:
    """Mount the whole index as a user does, by a command that returns; unmount at the end."""
    path = scratch / "mnt"
    release(path)  # what a run that was killed has left
    path.mkdir(exist_ok=True)
    options = (f"--endpoint-url={link.url}", f"--cache-dir={cache}")
    try:
        command = idcfs_command("mount", *options, str(path))
        run_well(command, scratch=scratch, timeout_s=_MOUNT_S)
        yield path
        run_well(idcfs_command("umount", str(path)), scratch=scratch, timeout_s=_MOUNT_S)
    finally:
        release(path)  # which also ends the daemon


def compile_layouts(link: Link, home: Path) -> Path:
    """Return the directory of the compiled layouts, for the mounts of a run to share."""
    cache = home / "compiled"
    with detached(link, home, cache):
        return cache / "layouts"


def _wait_until_mounted(daemon: Guarded, path: Path, program: str) -> None:
    end = time.monotonic() + _MOUNT_S
    while (mount_type(path) or "").split(".")[0] != "fuse":
        if not daemon.running or time.monotonic() > end:
            raise BenchError(f"{Path(program).name} does not mount: {daemon.said}")
        time.sleep(_POLL_S)
    os.statvfs(path)


def release(path: Path) -> None:
    """Detach whatever is still mounted at `path`."""
    while mount_type(path) is not None:
        subprocess.run(["fusermount3", "-uz", str(path)], check=True, timeout=30)
