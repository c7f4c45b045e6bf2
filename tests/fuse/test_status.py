"""What a mount tells of itself: the hidden directory, and `idcfs status`."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from idcfs.cli import status
from tests.fuse.test_tree import default_path
from tests.support.faults import Stall
from tests.support.mounting import DEADLINE_S, Launcher, Mount, raises_errno, wait_until
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.replica import ServedReplica

MAX_LISTINGS = 16
"""At once: see docs/architecture.md."""

IMPATIENT = """
from idcfs.cli.main import main
from idcfs.mount import mountpoints
assert mountpoints._PATIENCE_S > 1
mountpoints._PATIENCE_S = 1.0
main()
"""


@pytest.fixture(scope="module")
def mount(
    replica: ServedReplica, layouts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """One patient's series, over an empty cache."""
    series = replica.one("CT", collection_id="lidc_idri")
    base = tmp_path_factory.mktemp("status")
    (base / "cache").mkdir()
    (base / "cache" / "layouts").symlink_to(layouts / "layouts")
    (base / "mnt").mkdir()
    narrow = f"--series-instance-uid={series.series_instance_uid}"
    with Mount(
        base / "mnt", narrow, endpoint_url=replica.endpoint_url, cache_dir=base / "cache"
    ) as mount:
        yield mount


def figures(mount: Mount) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((mount.path / ".idcfs" / "status.json").read_text())
    return told


def test_it_is_not_listed_but_there(mount: Mount) -> None:
    assert ".idcfs" not in os.listdir(mount.path)
    hidden = mount.path / ".idcfs"
    assert hidden.is_dir()
    assert sorted(os.listdir(hidden)) == [
        "citations",
        "manifest",
        "metrics",
        "status.json",
        "version",
    ]
    assert (hidden / "version").is_file()
    assert os.listxattr(hidden / "version") == []
    assert not (mount.path / os.listdir(mount.path)[0] / ".idcfs").exists()
    with raises_errno(errno.ENOENT):
        (hidden / "nothing").stat()
    with raises_errno(errno.EROFS):
        (hidden / "status.json").write_text("")


def test_what_happened_is_counted(mount: Mount, replica: ServedReplica) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    each = replica.objects_of(series)[0]
    path = mount.path / default_path(series) / each.name
    before = figures(mount)
    path.read_bytes()
    after = figures(mount)
    assert after["read_bytes"] - before["read_bytes"] == each.size_bytes
    assert after["store"]["received_bytes"] - before["store"]["received_bytes"] >= each.size_bytes
    assert after["objects"]["read"] == before["objects"]["read"] + 1
    assert after["objects"]["fetched"] == before["objects"]["fetched"] + 1
    for kind in ("lookup", "open", "read"):
        summary = after["requests"][kind]
        assert summary["count"] > before["requests"].get(kind, {"count": 0})["count"]
        assert 0 < summary["p50_s"] <= summary["p90_s"] <= summary["p99_s"] < 60
    assert after["store"]["requests"]["list"]["count"] == 1
    assert after["errors"] == after["store"]["errors"] == {}
    assert after["uptime_s"] > before["uptime_s"]
    assert abs(after["memory_bytes"] - mount.resident_bytes()) < 50e6
    assert after["series"] == 1
    assert after["files"] == series.instance_count
    assert after["pid"] == mount.process.pid


def test_bytes_are_told_by_where_they_came_from(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    each = replica.objects_of(series)[0]
    options = {"cache_dir": tmp_path / "cache"}
    with mount_at(f"--patient-id={series.patient_id}", **options) as mount:
        (mount.path / default_path(series) / each.name).read_bytes()
        told = figures(mount)
        assert (told["cache_bytes"], told["store_bytes"]) == (0, each.size_bytes)

        def is_settled() -> bool:
            """Tell whether what came from the store is what is in the cache, to the byte."""
            held = (tmp_path / "cache" / "objects").rglob("*.dcm")
            stored: dict[str, int] = figures(mount)["store"]
            return not stored["under_way"] and stored["received_bytes"] == sum(
                path.stat().st_size for path in held
            )

        wait_until(is_settled, "what came ahead is in the cache")
    with mount_at(f"--patient-id={series.patient_id}", **options) as mount:
        (mount.path / default_path(series) / each.name).read_bytes()
        told = figures(mount)
        assert (told["cache_bytes"], told["store_bytes"]) == (each.size_bytes, 0)
        assert told["read_bytes"] == each.size_bytes
        assert told["store"]["received_bytes"] == 0
        assert told["objects"] == {"read": 1, "fetched": 0, "hit_ratio": 1.0}
        metrics = (mount.path / ".idcfs" / "metrics").read_text().splitlines()
        for name in ("read", "cache", "store"):
            label = f'{{mountpoint="{mount.path}"}}'
            assert f"idcfs_{name}_bytes_total{label} {told[f'{name}_bytes']}" in metrics


def test_what_is_under_way_and_what_waits_is_told(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    waiting = 4
    readers = MAX_LISTINGS + waiting
    with FaultProxy(replica.endpoint_url) as proxy, ThreadPoolExecutor(readers) as pool:
        proxy.fail(Stall(after_bytes=10), when=lambda request: not request.is_object)
        with mount_at(
            "--collection-id=lidc_idri",
            endpoint_url=proxy.endpoint_url,
            cache_dir=tmp_path / "cache",
            expected_log=["shutting down"],
        ) as mount:
            patients = sorted((mount.path / "lidc_idri").iterdir())[:readers]
            directories = [next(patient.glob("*/*")) for patient in patients]
            reading = [pool.submit(os.listdir, each) for each in directories]

            def is_full() -> bool:
                told = figures(mount)
                store: dict[str, int] = told["store"]
                own = 1  # the one that is answered with this
                return (store["under_way"], store["queued"], told["requests_under_way"]) == (
                    MAX_LISTINGS,
                    waiting,
                    readers + own,
                )

            wait_until(is_full, "as much is under way as may be, and the rest waits")
            mount.stop()
            assert all(isinstance(each.exception(DEADLINE_S), OSError) for each in reading)


def test_ls_asks_for_acls_once_and_not_for_each_file(mount: Mount, replica: ServedReplica) -> None:
    directory = mount.path / default_path(replica.one("CT", collection_id="lidc_idri"))
    os.listdir(directory)

    def asked() -> int:
        return int(figures(mount)["requests"].get("getxattr", {"count": 0})["count"])

    before = asked()
    subprocess.run(["ls", "-l", str(directory)], stdout=subprocess.DEVNULL, check=True)
    assert asked() - before <= 2


def test_metrics_are_as_prometheus_wants_them(mount: Mount, replica: ServedReplica) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    (mount.path / default_path(series) / replica.objects_of(series)[1].name).read_bytes()
    families = list(text_string_to_metric_families((mount.path / ".idcfs" / "metrics").read_text()))
    samples = [sample for family in families for sample in family.samples]
    told = {(each.name, *sorted(each.labels.items())): each.value for each in samples}
    assert len(told) == len(samples), "nothing is said twice"
    # A collector that finds two mounts' files refuses both if they have lines in common.
    assert {each.labels["mountpoint"] for each in samples} == {str(mount.path)}
    assert {family.type for family in families} == {"gauge", "counter", "summary"}
    here = ("mountpoint", str(mount.path))
    assert told["idcfs_uptime_seconds", here] > 0
    assert told["idcfs_series", here] == 1
    assert told["idcfs_read_bytes_total", here] > 0
    assert told["idcfs_request_seconds_count", ("kind", "read"), here] > 0
    assert told["idcfs_request_seconds", ("kind", "read"), here, ("quantile", "0.99")] > 0


def test_manifest_and_citations_are_of_what_is_mounted(
    mount: Mount, replica: ServedReplica
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    manifest = (mount.path / ".idcfs" / "manifest").read_text()
    assert manifest.splitlines() == [f"s3://{series.bucket}/{series.uuid}/*"]
    expected = Launcher().run("cite", "--series-instance-uid", series.series_instance_uid)
    assert (mount.path / ".idcfs" / "citations").read_text() == expected.stdout != ""


def test_a_copy_of_it_is_whole(mount: Mount, tmp_path: Path) -> None:
    """Its files say that they are empty, as those of /proc do."""
    for name in ("version", "manifest"):
        subprocess.run(["cp", str(mount.path / ".idcfs" / name), str(tmp_path)], check=True)
        assert (tmp_path / name).read_bytes() == (mount.path / ".idcfs" / name).read_bytes() != b""


def test_status_tells_it_to_people_and_programs(mount: Mount) -> None:
    done = Launcher().run("status", str(mount.path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{mount.path}: IDC v")
    assert any(line.startswith("shows     1 series") for line in lines)
    told = json.loads(Launcher().run("status", "--json", str(mount.path)).stdout)
    assert [each["mountpoint"] for each in told] == [str(mount.path)]
    everywhere = json.loads(Launcher().run("status", "--json").stdout)
    assert str(mount.path) in [each["mountpoint"] for each in everywhere]


def test_status_of_a_dead_mount_says_so(mount_at: Callable[..., Mount], tmp_path: Path) -> None:
    dead = mount_at("--collection-id=cmmd")
    dead.start()
    dead.process.kill()
    dead.process.wait()
    done = Launcher().run("status", str(dead.path))
    assert done.returncode == 1
    assert "its daemon is gone" in done.stdout
    done = Launcher().run("status", str(tmp_path))
    assert done.returncode == 1
    assert "nothing is mounted" in done.stderr


def test_status_of_a_mount_that_hangs_says_so(
    mount_at: Callable[..., Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_PATIENCE_S", 1.0)
    with mount_at("--collection-id=cmmd") as mount:
        wait_until(lambda: "mounted IDC" in mount.log, "it knows that it answers")
        mount.process.send_signal(signal.SIGSTOP)
        try:
            done = CliRunner().invoke(status.status, [str(mount.path)], standalone_mode=False)
        finally:
            mount.process.send_signal(signal.SIGCONT)
        assert (done.exception, done.return_value) == (None, 1)
        assert done.stdout == f"{mount.path}: it does not answer within 1 s\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "doctor --endpoint-url=http://127.0.0.1:9 --cache-dir={other}",
            "the daemon behind {path} hangs",
        ),
        ("mount --foreground {path}", "idcfs is mounted at {path}, and its daemon hangs"),
        ("refresh {path}", "idcfs is mounted at {path}, and its daemon hangs"),
        ("umount --stale {path}", ""),
    ],
)
def test_no_command_hangs_with_a_mount(
    mount: Mount, tmp_path: Path, command: str, told: str
) -> None:
    wait_until(lambda: "mounted IDC" in mount.log, "it knows that it answers")
    words = command.format(path=mount.path, other=tmp_path).split()
    mount.process.send_signal(signal.SIGSTOP)
    try:
        # Not in this process: who waits for such a daemon can only be killed.
        done = subprocess.run(
            [sys.executable, "-c", IMPATIENT, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
    finally:
        mount.process.send_signal(signal.SIGCONT)
    assert done.returncode == int(bool(told))
    said = done.stdout + done.stderr
    assert told.format(path=mount.path) in said
    assert (f"&& idcfs umount --stale {mount.path}" in said) == bool(told)


def test_errors_are_counted_by_kind(mount_at: Callable[..., Mount], tmp_path: Path) -> None:
    with mount_at(
        "--collection-id=cmmd",
        endpoint_url="http://127.0.0.1:9",
        cache_dir=tmp_path / "cache",
        expected_log=["reach", "127.0.0.1"],
    ) as mount:
        series = next(mount.path.glob("*/*/*/*"))
        with raises_errno(errno.ENETUNREACH):
            os.listdir(series)
        assert figures(mount)["errors"] == {"StoreUnavailableError": 1}
        assert figures(mount)["store"]["errors"] == {"StoreUnavailableError": 1}
