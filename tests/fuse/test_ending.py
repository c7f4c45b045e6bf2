"""How a mount ends: by signals under load, twice over, and hundreds of times in a row."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.support.faults import Stall
from tests.support.mounting import DEADLINE_S, Launcher, Mount, mount_type, wait_until
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.replica import ServedReplica

BOUND_S = 15.0
"""Two seconds of grace, and what a loaded machine of two cores may need on top."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_signal_under_load_ends_it_soon_and_keeps_what_was_fetched(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path, number: signal.Signals
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    mount = mount_at(
        f"--patient-id={series.patient_id}", cache_dir=cache, expected_log=["shutting down"]
    )
    mount.start()
    directory = mount.path / default_path(series)
    readers = [
        subprocess.Popen(
            ["cp", "-r", str(directory), str(tmp_path / f"copy{number}")], stderr=subprocess.DEVNULL
        )
        for number in range(8)
    ]
    wait_until(lambda: len(list((cache / "objects").rglob("*.dcm"))) > 5, "files are cached")
    kept = list((cache / "objects").rglob("*.dcm"))
    began = time.monotonic()
    mount.process.send_signal(number)
    assert mount.process.wait(DEADLINE_S) == 0, mount.log
    assert time.monotonic() - began < BOUND_S
    assert mount_type(mount.path) is None
    for reader in readers:
        reader.wait(DEADLINE_S)
    assert all(path.exists() for path in kept)
    done = Launcher().run("cache", "verify", "--json", f"--cache-dir={cache}")
    assert done.returncode == 0, done.stdout
    assert '"damaged": 0' in done.stdout


def test_a_second_signal_waits_for_no_fetch(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    stalled = replica.objects_of(series)[0]
    with FaultProxy(replica.endpoint_url) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.fail(Stall(after_bytes=10), when=lambda request: request.is_object)
        mount = mount_at(
            f"--patient-id={series.patient_id}",
            "--log-level=info",
            endpoint_url=proxy.endpoint_url,
            cache_dir=tmp_path / "cache",
        )
        mount.start()
        reading = pool.submit((mount.path / default_path(series) / stalled.name).read_bytes)
        proxy.wait_for(lambda p: bool(p.log(lambda request: request.is_object)))
        mount.process.send_signal(signal.SIGTERM)
        mount.process.send_signal(signal.SIGINT)
        assert mount.process.wait(DEADLINE_S) == 0, mount.log
        first, second = re.findall("got SIG(?:TERM|INT), .*", mount.log)
        assert first.endswith("unmounting")
        # Nothing comes of the second one once the time is over that the first one gives.
        assert second.endswith("dropping what is under way")
        assert mount_type(mount.path) is None
        assert isinstance(reading.exception(DEADLINE_S), OSError)


@pytest.mark.parametrize(
    "cycles",
    [5, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)
def test_mounting_and_unmounting_leaves_nothing_behind(
    replica: ServedReplica, layouts: Path, mountpoint: Path, tmp_path: Path, cycles: int
) -> None:
    path, cache, state = mountpoint, tmp_path / "cache", tmp_path / "state"
    cache.mkdir()
    (cache / "layouts").symlink_to(layouts / "layouts")
    series = replica.one("CT", collection_id="lidc_idri")
    each = replica.objects_of(series)[0]
    launcher = Launcher(environment={"XDG_STATE_HOME": str(state)})
    command = (
        "mount",
        f"--patient-id={series.patient_id}",
        f"--cache-dir={cache}",
        f"--endpoint-url={replica.endpoint_url}",
        str(path),
    )
    started: set[Process] = set()
    ours_at_first = descriptors(os.getpid())
    for _ in range(cycles):
        done = launcher.run(*command)
        assert done.returncode == 0, done.stderr
        daemon = json.loads((path / ".idcfs" / "status.json").read_text())["pid"]
        assert descriptors(daemon) < 40, "it begins with some 20, whatever went before"
        directory = path / default_path(series)
        assert (directory / each.name).read_bytes() == each.path.read_bytes()
        assert os.getxattr(directory, "user.dicom.SeriesNumber")
        family = {process for process in processes() if daemon in (process.number, process.parent)}
        assert len(family) == 2, "a child of the daemon's looks into the index"
        started |= family
        done = launcher.run("umount", f"--wait={DEADLINE_S}", str(path))
        assert done.returncode == 0, done.stderr
    wait_until(lambda: not started & processes(), "the last daemon and its child have ended")
    assert str(path) not in Path("/proc/self/mountinfo").read_text()
    assert descriptors(os.getpid()) <= ours_at_first
    assert list((cache / "scratch").iterdir()) == []
    assert len(list(state.rglob("*.log*"))) <= 2
    assert not [line for log in state.rglob("*.log*") for line in log.read_text().splitlines()]


def descriptors(process: int) -> int:
    """Return how many files a process has open."""
    return len(os.listdir(f"/proc/{process}/fd"))


@dataclass(frozen=True)
class Process:
    """A process, told from a later one of the same number by when it began."""

    number: int
    parent: int = field(compare=False)  # changes when that ends
    began: int


def processes() -> set[Process]:
    """Return all processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # See proc(5), from the state on: before it stands the name, which may hold blanks.
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        found.add(Process(int(path.name), parent=int(fields[1]), began=int(fields[19])))
    return found
