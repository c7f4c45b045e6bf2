"""`idcfs demo`: the whole job, with the commands that a user would type."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idcfs.cli.options import log_option
from idcfs.config import cache_directory
from idcfs.errors import IdcfsError, MountError

if TYPE_CHECKING:
    from idcfs.demo.replica import Replica
    from idcfs.demo.series import ReplicaSeries
    from idcfs.demo.server import EmbeddedStore

_DAEMON_END_S = 30.0
"""A daemon ends some milliseconds after its mount; this only bounds a fault."""

_SHOWN_LINES = 4


@click.command()
@click.option("--keep", is_flag=True, help="Leave the mount up afterwards, until Ctrl-C.")
@log_option
def demo(keep: bool) -> None:
    """Show the whole job on an embedded object store, without a network.

    Starts an S3 server on this machine with a replica of some real series (their
    pixels are phantoms), mounts the whole index on it, looks around, copies,
    prefetches, reads with the server gone, and unmounts. Nothing is left running; the
    DICOM files made for it (about 350 MB) stay in the cache directory, below demo/,
    for the next time.
    """
    from idcfs.demo.replica import build_replica, fill
    from idcfs.demo.server import EmbeddedStore

    replica = build_replica(cache_directory() / "demo", progress=_Making())
    with tempfile.TemporaryDirectory(prefix="idcfs-demo-") as name:
        stage = Path(name)
        # Ended by SIGTERM, the demo must clean up as after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with EmbeddedStore(stage / "store") as store:
            _say(f"An S3 server of our own at {store.endpoint_url}: {len(replica.objects)} files")
            fill(replica, store.endpoint_url)
            _Show(stage, store, replica).run(keep=keep)
    _say("Done; nothing is left running.")


class _Making:
    """Tells which files are being made, under a heading that comes only if any are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # called from several threads
        self._begun = False

    def __call__(self, series: ReplicaSeries) -> None:
        with self._lock:
            if not self._begun:
                self._begun = True
                _say("Making DICOM files for some real series (only the first time) …")
            click.echo(f"  {series.modality} of {series.collection_id}")


class _Show:
    """The demo on its stage: a directory with the store, the cache and the mount point."""

    def __init__(self, stage: Path, store: EmbeddedStore, replica: Replica) -> None:
        self._stage = stage
        self._store = store
        self._replica = replica
        self._mountpoint = stage / "idc"
        self._mountpoint.mkdir()
        self._environment = {
            **os.environ,
            "IDCFS_ENDPOINT_URL": store.endpoint_url,
            "IDCFS_CACHE_DIR": str(stage / "cache"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def run(self, *, keep: bool) -> None:
        """Show everything, and unmount whatever happens."""
        _say("From here on, these are commands that you could type:")
        click.echo(f"$ export IDCFS_ENDPOINT_URL={self._store.endpoint_url}")
        self._type("idcfs mount idc")
        try:
            self._look_around()
            self._copy()
            self._prefetch()
            self._read_offline()
            if keep:
                self._wait()
        finally:
            self._type("idcfs umount idc")
            self._wait_for_daemon()

    def _look_around(self) -> None:
        _say("The whole index, as directories: collections, patients, studies, series, files")
        series = self._find("CT", "lidc_idri")
        directory = Path("idc")
        self._type(f"ls {directory} | wc -l")
        for part in _parts(series)[:3]:
            directory /= part
            self._type(f"ls {shlex.quote(str(directory))} | head -n {_SHOWN_LINES}")
        self._type(f"ls -l {shlex.quote(str(self._path(series)))} | head -n {_SHOWN_LINES}")

    def _copy(self) -> None:
        series = self._find("CT", "lidc_idri")
        _say(f"Copy a CT series of {series.instance_count} files, as from any disk")
        self._type(f"cp -r {shlex.quote(str(self._path(series)))} ct && du -sh ct")
        _say("What DICOM tools say of a file in the mount")
        first = self._path(series) / self._replica.objects_of(series)[0].name
        if shutil.which("dcmdump"):
            tags = " ".join(f"+P {tag}" for tag in ("PatientID", "Modality", "SeriesInstanceUID"))
            self._type(f"dcmdump {tags} {shlex.quote(str(first))}")
        else:
            program = (
                "import pydicom, sys; d = pydicom.dcmread(sys.argv[1]); "
                "print(d.PatientID, d.Modality, d.pixel_array.shape)"
            )
            python = shlex.quote(sys.executable)
            self._type(f'{python} -c "{program}" {shlex.quote(str(first))}')

    def _prefetch(self) -> None:
        slide, volume = self._find("SM"), self._find("MR")
        _say("Prefetch a slide and an MR series into the cache; first ask how much that is")
        uids = f"{slide.series_instance_uid},{volume.series_instance_uid}"
        self._type(f"idcfs size --series-instance-uid {uids}")
        self._type(f"idcfs prefetch {uids}")

    def _read_offline(self) -> None:
        _say("Stop the server: what was prefetched or read is still there")
        self._store.stop()
        volume = self._find("MR")
        self._type(f"cp -r {shlex.quote(str(self._path(volume)))} mr && du -sh mr")
        for each in self._replica.objects_of(volume):
            if (self._stage / "mr" / each.name).read_bytes() != each.path.read_bytes():
                raise IdcfsError(f"{each.name} came out of the mount with other bytes")
        click.echo("(compared with the originals: the same bytes)")

    def _wait(self) -> None:
        self._store.start()
        _say(f"The mount stays at {self._mountpoint}. These series of the replica have files:")
        for series in self._replica.series:
            click.echo(f"  {self._mountpoint / Path(*_parts(series))}")
        _say("Ctrl-C here unmounts and ends the demo.")
        with contextlib.suppress(KeyboardInterrupt):
            while os.path.ismount(self._mountpoint):
                time.sleep(0.5)

    def _find(self, modality: str, collection_id: str | None = None) -> ReplicaSeries:
        return next(
            series
            for series in self._replica.series
            if series.modality == modality and collection_id in (None, series.collection_id)
        )

    def _path(self, series: ReplicaSeries) -> Path:
        return Path("idc", *_parts(series))

    def _type(self, command: str) -> None:
        """Show a command and run it on the stage. Raises IdcfsError if it fails."""
        click.echo(click.style(f"$ {command}", bold=True))
        sys.stdout.flush()
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self._stage,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        # `head` ends the pipe before `ls` is done: no failure.
        if done.returncode not in (0, 128 + signal.SIGPIPE):
            raise IdcfsError(f"`{command}` failed with status {done.returncode}")
        elapsed_s = time.monotonic() - started
        click.echo(click.style(f"({elapsed_s:.2f} s)", dim=True))

    def _wait_for_daemon(self) -> None:
        """Wait until the daemon has removed its scratch directory, the last thing it does."""
        scratch = self._stage / "cache" / "scratch"
        end = time.monotonic() + _DAEMON_END_S
        while any(scratch.iterdir()):
            if time.monotonic() > end:
                raise MountError("the daemon did not end after its mount")
            time.sleep(0.02)


def _parts(series: ReplicaSeries) -> tuple[str, str, str, str]:
    """Return where the default template puts a series."""
    return (
        series.collection_id,
        series.patient_id,
        series.study_instance_uid,
        f"{series.modality}_{series.series_instance_uid}",
    )


def _say(text: str) -> None:
    click.echo()
    click.echo(click.style(text, fg="cyan"))
