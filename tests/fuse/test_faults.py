"""What readers see when the network, the server, the cache or the daemon fails."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.support.faults import FORBIDDEN, NOT_FOUND, SLOW_DOWN, Corrupt, Reset, Stall
from tests.support.mounting import DEADLINE_S, Launcher, Mount, mount_type, raises_errno, wait_until
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.faults import Fault, Request
    from tests.support.replica import ServedReplica


@pytest.fixture
def proxy(replica: ServedReplica) -> Iterator[FaultProxy]:
    """A proxy of the test's own before the server."""
    with FaultProxy(replica.endpoint_url) as proxy:
        yield proxy


def is_object(request: Request) -> bool:
    return request.is_object


def test_what_was_read_once_is_served_without_the_server_also_after_a_remount(
    mount_at: Callable[..., Mount], own_replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    series = own_replica.one("CT", collection_id="lidc_idri")
    options = {"endpoint_url": own_replica.endpoint_url, "cache_dir": cache}
    some, *others = own_replica.objects_of(series)
    with mount_at(f"--patient-id={series.patient_id}", **options) as mount:
        assert (mount.path / default_path(series) / some.name).read_bytes() == (
            some.path.read_bytes()
        )
    own_replica.store.stop()
    with mount_at(
        "--collection-id=lidc_idri",
        expected_log=["cannot be reached", "is back"],
        **options,
    ) as mount:
        directory = mount.path / default_path(series)
        assert len(os.listdir(directory)) == series.instance_count
        uncached = [next(patient.glob("*/*")) for patient in sorted(mount.path.glob("*/*"))[:50]]
        with raises_errno(errno.ENETUNREACH):
            (directory / others[0].name).read_bytes()
        for path in uncached:
            with raises_errno(errno.ENETUNREACH):
                os.listdir(path)
        # Each tells of itself that tries by itself, which takes it two seconds.
        assert mount.log.count("WARNING") == 1, mount.log
        told = Launcher().run("status", str(mount.path)).stdout
        assert "\n          the store cannot be reached, for " in told
        assert store_reachable(mount) == 0
        assert (directory / some.name).read_bytes() == some.path.read_bytes()
        own_replica.store.start()
        wait_until(lambda: can_be_read(directory / others[0].name), "the store is found again")
        assert (directory / others[0].name).read_bytes() == others[0].path.read_bytes()
        assert mount.log.count("WARNING") == 2, mount.log
        assert store_reachable(mount) == 1


def store_reachable(mount: Mount) -> int:
    metrics = (mount.path / ".idcfs" / "metrics").read_text()
    (told,) = re.findall(r"^idcfs_store_reachable\{.*\} (\d)$", metrics, re.MULTILINE)
    return int(told)


def can_be_read(path: Path) -> bool:
    try:
        return path.read_bytes() != b""
    except OSError as exc:
        if exc.errno == errno.ENETUNREACH:
            return False
        raise


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(FORBIDDEN, errno.EACCES), (NOT_FOUND, errno.EIO), (SLOW_DOWN, errno.ENETUNREACH)],
)
def test_answers_of_the_server_become_errno_and_pass(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    proxy: FaultProxy,
    tmp_path: Path,
    fault: Fault,
    expected: int,
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    target = replica.objects_of(series)[0]
    proxy.fail(fault, when=is_object)
    with mount_at(
        f"--patient-id={series.patient_id}",
        endpoint_url=proxy.endpoint_url,
        cache_dir=tmp_path / "cache",
        expected_log=[target.key, "--script run.sh"],
    ) as mount:
        path = mount.path / default_path(series) / target.name
        with raises_errno(expected):
            path.read_bytes()
        assert len(os.listdir(path.parent)) == series.instance_count, "the mount stays up"
        proxy.clear()
        assert path.read_bytes() == target.path.read_bytes()


@pytest.mark.parametrize("fault", [Reset(after_bytes=100_000), Corrupt(at_byte=5)])
def test_damage_on_the_way_is_mended_unseen(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    proxy: FaultProxy,
    tmp_path: Path,
    fault: Fault,
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    target = replica.objects_of(series)[0]
    proxy.fail(fault, when=is_object, times=1)
    with mount_at(
        f"--patient-id={series.patient_id}",
        endpoint_url=proxy.endpoint_url,
        cache_dir=tmp_path / "cache",
        expected_log=["fetching it again", "resum", target.key],
    ) as mount:
        path = mount.path / default_path(series) / target.name
        assert path.read_bytes() == target.path.read_bytes()


def test_bytes_that_stay_wrong_are_never_served(
    mount_at: Callable[..., Mount], replica: ServedReplica, proxy: FaultProxy, tmp_path: Path
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    target = replica.objects_of(series)[0]
    proxy.fail(Corrupt(at_byte=1000), when=is_object)
    with (
        mount_at(
            f"--patient-id={series.patient_id}",
            endpoint_url=proxy.endpoint_url,
            cache_dir=tmp_path / "cache",
            expected_log=["MD5"],
        ) as mount,
        raises_errno(errno.EIO),
    ):
        (mount.path / default_path(series) / target.name).read_bytes()
    assert not list((tmp_path / "cache" / "objects").rglob("*.dcm"))


def test_a_stalled_transfer_does_not_hold_up_others_and_ends_with_the_mount(
    mount_at: Callable[..., Mount], replica: ServedReplica, proxy: FaultProxy, tmp_path: Path
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    stalled, fine, *_ = replica.objects_of(series)
    proxy.fail(Stall(after_bytes=10), when=lambda request: request.path.endswith(stalled.name))
    with (
        ThreadPoolExecutor(1) as pool,
        mount_at(
            f"--patient-id={series.patient_id}",
            endpoint_url=proxy.endpoint_url,
            cache_dir=tmp_path / "cache",
            expected_log=["shutting down", stalled.key],
        ) as mount,
    ):
        directory = mount.path / default_path(series)
        assert len(os.listdir(directory)) == series.instance_count
        waiting = pool.submit((directory / stalled.name).read_bytes)
        proxy.wait_for(lambda p: any(stalled.name in e.request.path for e in p.log(is_object)))
        assert (directory / fine.name).read_bytes() == fine.path.read_bytes()
        mount.stop()
        assert waiting.exception(DEADLINE_S) is not None


def test_a_cache_that_vanishes_under_the_mount_costs_time_only(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    with mount_at(
        f"--patient-id={series.patient_id}", cache_dir=cache, expected_log=["cache", "listing"]
    ) as mount:
        directory = mount.path / default_path(series)
        assert (directory / objects[0].name).read_bytes() == objects[0].path.read_bytes()
        shutil.rmtree(cache)
        cache.touch()  # a file in its place, so that it cannot come back
        for each in objects[:5]:
            assert (directory / each.name).read_bytes() == each.path.read_bytes()


def test_damaged_cache_files_are_fetched_again(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)[:4]
    narrow = f"--patient-id={series.patient_id}"
    with mount_at(narrow, cache_dir=cache) as mount:
        for each in objects:
            (mount.path / default_path(series) / each.name).read_bytes()
    names = {each.name for each in objects}  # others of the series came ahead
    held = sorted(path for path in (cache / "objects").rglob("*.dcm") if path.name in names)
    assert len(held) == len(objects)
    os.truncate(held[0], 100)
    held[1].unlink()
    held[2].unlink()
    held[2].mkdir()
    listing = next(path for path in (cache / "listings").rglob("*") if path.is_file())
    listing.write_bytes(listing.read_bytes()[:-10])
    with mount_at(narrow, cache_dir=cache, expected_log=["cache", "cannot"]) as mount:
        for each in objects:
            content = (mount.path / default_path(series) / each.name).read_bytes()
            assert content == each.path.read_bytes()


def test_mount_points_that_cannot_be_used(
    replica: ServedReplica, layouts: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    for path, expected in (
        (tmp_path / "missing", "mkdir -p"),
        (full, "is not empty"),
        (full / "file", "is not a directory"),
        (layouts, "lie inside one another"),
    ):
        done = Launcher().run(
            "mount",
            f"--endpoint-url={replica.endpoint_url}",
            f"--cache-dir={layouts}",
            *(["-o", "nonempty"] if path == layouts else []),
            str(path),
        )
        assert (done.returncode, done.stdout) == (1, ""), path
        assert expected in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_mounting_twice_and_unmounting_twice(mount_at: Callable[..., Mount]) -> None:
    with mount_at("--collection-id=lidc_idri") as mount:
        again = Launcher().run("mount", str(mount.path))
        assert again.returncode == 1
        assert "already mounted" in again.stderr
    done = Launcher().run("umount", str(mount.path))
    assert done.returncode == 1
    assert "nothing is mounted" in done.stderr


def test_a_dead_mount_is_cleared_by_the_next_one(mount_at: Callable[..., Mount]) -> None:
    first, second = (mount_at("--collection-id=lidc_idri") for _ in range(2))
    first.start()
    first.process.kill()
    first.process.wait()
    with raises_errno(errno.ENOTCONN):
        os.listdir(first.path)
    told = Launcher().run("doctor")
    assert f"the daemon behind {first.path} is gone" in told.stdout
    with second:
        assert os.listdir(second.path) == ["lidc_idri"]


def test_killed_daemon_leaves_a_cache_that_serves_right_bytes(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    narrow = f"--patient-id={series.patient_id}"
    mount = mount_at(narrow, cache_dir=cache)
    mount.start()
    copying = subprocess.Popen(
        ["cp", "-r", str(mount.path / default_path(series)), str(tmp_path / "copy")],
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(list((cache / "objects").rglob("*.dcm"))) > 10, "some files are cached")
    mount.kill()
    copying.wait(DEADLINE_S)
    for path in (cache / "objects").rglob("*.dcm"):
        original = next(each for each in objects if each.name == path.name)
        assert path.read_bytes() == original.path.read_bytes()
    with mount_at(narrow, cache_dir=cache) as again:
        for each in objects:
            content = (again.path / default_path(series) / each.name).read_bytes()
            assert content == each.path.read_bytes()


def test_unknown_words_are_refused_with_the_nearest(
    replica: ServedReplica, layouts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    for argument, expected in (
        ("--collection-id=nslt", "nlst"),
        ("--dir-template=%PatientId", "%PatientID"),
        ("--where=Modalty = 'CT'", "Modality"),
        ("--where=Modality = ", "--where"),
        ("--index=/dev/null", "not an IDC index"),
        ("--endpoint-url=nonsense", "nonsense"),
        ("-ouid=me", "uid"),
    ):
        done = Launcher().run("mount", f"--cache-dir={layouts}", argument, str(path))
        assert done.returncode in (1, 2), argument
        assert expected in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert mount_type(path) is None
