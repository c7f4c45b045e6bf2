"""How a mount ends: by signals under load, twice over, and hundreds of times in a row."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
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

BOUND_S = 10.0
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
            endpoint_url=proxy.endpoint_url,
            cache_dir=tmp_path / "cache",
        )
        mount.start()
        reading = pool.submit((mount.path / default_path(series) / stalled.name).read_bytes)
        proxy.wait_for(lambda p: bool(p.log(lambda request: request.is_object)))
        mount.process.send_signal(signal.SIGTERM)
        mount.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert mount.process.wait(DEADLINE_S) == 0, mount.log
        assert time.monotonic() - began < 1.9  # the grace after the first one is 2 s
        assert mount_type(mount.path) is None
        assert isinstance(reading.exception(DEADLINE_S), OSError)


@pytest.mark.parametrize(
    "cycles",
    [2, pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)
def test_mounting_and_unmounting_leaves_nothing_behind(
    replica: ServedReplica, layouts: Path, tmp_path: Path, cycles: int
) -> None:
    path, cache, state = tmp_path / "mnt", tmp_path / "cache", tmp_path / "state"
    path.mkdir()
    cache.mkdir()
    (cache / "layouts").symlink_to(layouts / "layouts")
    launcher = Launcher(environment={"XDG_STATE_HOME": str(state)})
    endpoint = f"--endpoint-url={replica.endpoint_url}"
    for _ in range(cycles):
        done = launcher.run(
            "mount", "--collection-id=cmmd", f"--cache-dir={cache}", endpoint, str(path)
        )
        assert done.returncode == 0, done.stderr
        assert os.listdir(path) == ["cmmd"]
        assert launcher.run("umount", str(path)).returncode == 0
    wait_until(lambda: not processes_with(str(path)), "the last daemon has ended")
    assert mount_type(path) is None
    assert str(path) not in Path("/proc/self/mountinfo").read_text()
    assert list((cache / "scratch").iterdir()) == []
    assert len(list(state.rglob("*.log*"))) <= 2
    assert not [line for log in state.rglob("*.log*") for line in log.read_text().splitlines()]


def processes_with(word: str) -> list[int]:
    """Return the processes that have a word in their command line."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                command = (process / "cmdline").read_text()
            except OSError:  # ended meanwhile
                continue
            if word in command:
                found.append(int(process.name))
    return found
