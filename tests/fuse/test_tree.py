"""What the mounted tree looks like: names, sizes, attributes, inode numbers, limits."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import Launcher, Mount, raises_errno

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.demo.series import ReplicaSeries
    from tests.support.replica import ServedReplica

COLLECTIONS = 179
NLST_PATIENTS = 26_410
NLST_SERIES = 592_600
NLST_DIRECTORIES = NLST_PATIENTS + 73_575 + NLST_SERIES
"""Patients, studies and series. The files of all of them only the real store has."""
WHOLE_INDEX_BYTES = 99_944_891_647_274
DAY_S = 86_400


def default_path(series: ReplicaSeries) -> Path:
    """Return where the default template puts a series."""
    return Path(
        series.collection_id,
        series.patient_id,
        series.study_instance_uid,
        f"{series.modality}_{series.series_instance_uid}",
    )


def test_whole_index_at_the_top(mounted: Mount) -> None:
    assert len(os.listdir(mounted.path)) == COLLECTIONS
    assert len(os.listdir(mounted.path / "nlst")) == NLST_PATIENTS


def test_series_directories_show_every_instance_with_its_true_size(
    mounted: Mount, replica: ServedReplica
) -> None:
    for series in replica.series:
        shown = {
            entry.name: entry.stat().st_size
            for entry in os.scandir(mounted.path / default_path(series))
        }
        expected = {each.name: each.size_bytes for each in replica.objects_of(series)}
        assert shown == expected, series.uuid


def test_attributes_of_a_file(mounted: Mount, replica: ServedReplica) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    reference = replica.objects_of(series)[0]
    found = (mounted.path / default_path(series) / reference.name).stat()
    assert stat.filemode(found.st_mode) == "-r--r--r--"
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert found.st_nlink == 1
    assert found.st_size == reference.size_bytes
    assert found.st_blocks == -(-found.st_size // 512)
    # The object's own time, which is when the replica was filled.
    filled = replica.directory.stat().st_mtime
    assert abs(found.st_mtime - filled) < 30 * DAY_S


def test_attributes_of_a_directory(mounted: Mount) -> None:
    found = (mounted.path / "nlst").stat()
    assert stat.filemode(found.st_mode) == "dr-xr-xr-x"
    assert found.st_nlink == 2 + NLST_PATIENTS
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())


def test_du_tells_the_size_of_the_files(mounted: Mount, replica: ServedReplica) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    told = subprocess.run(
        ["du", "-s", "--block-size=512", str(mounted.path / default_path(series))],
        capture_output=True,
        text=True,
        check=True,
    )
    blocks = sum(-(-each.size_bytes // 512) for each in replica.objects_of(series))
    assert int(told.stdout.split()[0]) == blocks


def test_statfs_tells_the_size_of_the_index(mounted: Mount) -> None:
    found = os.statvfs(mounted.path)
    assert found.f_blocks == -(-WHOLE_INDEX_BYTES // found.f_frsize)
    assert found.f_files == 58_784_975
    assert (found.f_bfree, found.f_bavail) == (0, 0)
    assert found.f_flag & os.ST_RDONLY


@pytest.mark.parametrize(
    "act",
    [
        lambda top: (top / "new").touch(),
        lambda top: (top / "new").mkdir(),
        lambda top: (top / "nlst").rmdir(),
        lambda top: (top / "nlst").rename(top / "other"),
        lambda top: (top / "nlst").chmod(0o777),
        lambda top: os.utime(top / "nlst"),
        lambda top: (top / "link").symlink_to("a"),
    ],
)
def test_nothing_can_be_written(mounted: Mount, act: Callable[[Path], object]) -> None:
    with raises_errno(errno.EROFS):
        act(mounted.path)


def test_missing_names_are_missing(mounted: Mount) -> None:
    for name in ("nosuchcollection", "NLST", "x" * 255, "\udcff", "a\nb"):
        assert not (mounted.path / name).exists()
    with raises_errno(errno.ENAMETOOLONG):
        (mounted.path / ("x" * 300)).stat()


def test_a_series_the_store_does_not_have_is_an_error_not_an_empty_directory(
    mount_at: Callable[..., Mount],
) -> None:
    # The replica has no series of this patient.
    with mount_at(
        "--patient-id=100002", expected_log=["the store has no objects of series"]
    ) as mount:
        directory = next(mount.path.glob("*/*/*/*"))
        with raises_errno(errno.EIO):
            os.listdir(directory)


def test_inode_numbers_are_the_same_at_every_mount_and_selection(
    mounted: Mount, mount_at: Callable[..., Mount], replica: ServedReplica
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    directory = default_path(series)
    paths = [*(Path(*directory.parts[:n]) for n in range(5))]
    paths += [directory / each.name for each in replica.objects_of(series)]
    first = [(mounted.path / path).stat().st_ino for path in paths]
    assert len(set(first)) == len(first)
    with mount_at() as again:
        assert [(again.path / path).stat().st_ino for path in paths] == first
    with mount_at(f"--patient-id={series.patient_id}") as narrowed:
        assert [(narrowed.path / path).stat().st_ino for path in paths] == first
    with mount_at("--dir-template=", f"--series-instance-uid={series.series_instance_uid}") as flat:
        files = [(flat.path / each.name).stat().st_ino for each in replica.objects_of(series)]
        assert files == first[5:]


def test_selection_shows_its_part_of_the_tree_only(
    mount_at: Callable[..., Mount], replica: ServedReplica
) -> None:
    with mount_at("--collection-id=lidc_idri", "--modality=SEG,SR") as mount:
        assert os.listdir(mount.path) == ["lidc_idri"]
        leaves = [path.name for path in mount.path.glob("*/*/*/*")]
        assert leaves
        assert all(name.startswith(("SEG_", "SR_")) for name in leaves)
        assert not (mount.path / "nlst").exists()


def test_several_series_in_one_directory_show_their_union(
    mount_at: Callable[..., Mount], replica: ServedReplica
) -> None:
    patient = replica.one("SEG", collection_id="lidc_idri").patient_id
    together = [series for series in replica.series if series.patient_id == patient]
    assert len(together) > 2
    expected = {
        each.name: each.size_bytes for series in together for each in replica.objects_of(series)
    }
    uuids = ",".join(series.uuid for series in together)
    with mount_at("--dir-template=%PatientID", f"--crdc-series-uuid={uuids}") as mount:
        shown = {e.name: e.stat().st_size for e in os.scandir(mount.path / patient)}
        assert shown == expected
        some = replica.objects_of(together[-1])[0]
        assert (mount.path / patient / some.name).read_bytes() == some.path.read_bytes()


def test_flat_mount_of_a_selection(mount_at: Callable[..., Mount], replica: ServedReplica) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    with mount_at("--dir-template=", f"--crdc-series-uuid={series.uuid}") as mount:
        assert sorted(os.listdir(mount.path)) == sorted(
            each.name for each in replica.objects_of(series)
        )


def test_flat_mount_of_the_whole_index_is_refused(
    replica: ServedReplica, layouts: Path, tmp_path: Path
) -> None:
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    done = Launcher().run(
        "mount",
        "--dir-template=",
        f"--cache-dir={layouts}",
        f"--endpoint-url={replica.endpoint_url}",
        str(mountpoint),
    )
    assert done.returncode == 2
    assert "58,784,975 files" in done.stderr
    assert "--dir-template" in done.stderr
    assert not os.path.ismount(mountpoint)


def test_ownership_and_modes_can_be_chosen(
    mount_at: Callable[..., Mount], replica: ServedReplica
) -> None:
    series = replica.one("SR", collection_id="lidc_idri")
    options = ("--uid=1234", "--gid=2345", "--dir-mode=0750", "--file-mode=0640")
    with mount_at(*options) as mount:
        directory = (mount.path / "nlst").stat()
        assert (directory.st_uid, directory.st_gid) == (1234, 2345)
        assert stat.S_IMODE(directory.st_mode) == 0o750
        file = next(iter((mount.path / default_path(series)).iterdir())).stat()
        assert (file.st_uid, file.st_gid) == (1234, 2345)
        assert stat.S_IMODE(file.st_mode) == 0o640


@pytest.mark.parametrize(
    ("depth", "count"),
    [
        pytest.param(2, NLST_DIRECTORIES - NLST_SERIES, id="studies"),
        pytest.param(3, NLST_DIRECTORIES, id="series", marks=pytest.mark.slow),
    ],
)
def test_find_over_the_directories_of_nlst_keeps_the_daemon_small(
    mount_at: Callable[..., Mount], depth: int, count: int
) -> None:
    with mount_at() as mount:
        os.listdir(mount.path)
        before = mount.resident_bytes()
        found = subprocess.run(
            ["find", str(mount.path / "nlst"), "-mindepth", "1", "-maxdepth", str(depth)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert len(found) == len(set(found)) == count
        # Less than 100 bytes for each: the layout's pages, and no table of inodes.
        assert mount.resident_bytes() - before < 64 << 20


def test_directory_can_be_read_from_any_position(mounted: Mount) -> None:
    expected = sorted(os.listdir(mounted.path))
    listing = subprocess.run(
        ["ls", "-aU", str(mounted.path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listing[:2] == [".", ".."]
    assert sorted(listing[2:]) == expected
