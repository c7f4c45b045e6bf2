"""Extended attributes, as getfattr and copying tools see them."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from idcfs.catalog.index import Index
from tests.fuse.test_tree import default_path
from tests.support.mounting import raises_errno, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica


@pytest.fixture
def ct(mounted: Mount, replica: ServedReplica) -> Path:
    """The directory of a CT series."""
    return mounted.path / default_path(replica.one("CT", collection_id="lidc_idri"))


def getfattr(path: Path) -> dict[str, str]:
    """Return what `getfattr -d` prints."""
    done = subprocess.run(["getfattr", "-d", str(path)], capture_output=True, text=True, check=True)
    assert all("Removing leading" in line for line in done.stderr.splitlines()), done.stderr
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    return {name: value.strip('"') for name, value in (line.split("=", 1) for line in lines)}


def test_a_file_says_what_it_is(ct: Path, replica: ServedReplica) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    each = replica.objects_of(series)[-1]
    (ct / each.name).read_bytes()
    assert getfattr(ct / each.name) == {
        "user.dicom.Modality": "CT",
        "user.dicom.PatientID": series.patient_id,
        "user.dicom.SeriesInstanceUID": series.series_instance_uid,
        "user.dicom.StudyInstanceUID": series.study_instance_uid,
        "user.idc.cached": "yes",
        "user.idc.collection_id": "lidc_idri",
        "user.idc.doi": "10.7937/k9/tcia.2015.lo9ql9sx",
        "user.idc.license": "CC BY 3.0",
        "user.idc.s3_url": f"s3://{each.bucket}/{each.key}",
        "user.idc.series_uuid": series.uuid,
    }
    # Not listed, because it would be copied with each file, but there:
    assert os.getxattr(ct / each.name, "user.dicom.BodyPartExamined") == b"CHEST"


def test_a_directory_says_what_all_below_have_in_common(
    mounted: Mount, ct: Path, replica: ServedReplica
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    of_series = getfattr(ct)
    assert of_series["user.dicom.Modality"] == "CT"
    assert of_series["user.idc.s3_url"].endswith(f"/{series.uuid}/*")
    assert set(of_series) > {"user.dicom.SeriesDescription", "user.idc.license"}
    collection = {"user.idc.collection_id": "lidc_idri"}
    patient = {**collection, "user.dicom.PatientID": series.patient_id}
    study = {**patient, "user.dicom.StudyInstanceUID": series.study_instance_uid}
    assert getfattr(ct.parents[0]) == study
    assert getfattr(ct.parents[1]) == patient
    assert getfattr(ct.parents[2]) == collection
    assert getfattr(mounted.path) == {}


def test_what_is_not_there_is_refused(ct: Path) -> None:
    path = ct / os.listdir(ct)[0]
    for place, name, number in (
        (path, "user.idc.nothing", errno.ENODATA),
        (ct.parent, "user.dicom.Modality", errno.ENODATA),
        (path, "security.selinux", errno.ENOTSUP),
        (path, "trusted.overlay.opaque", errno.ENOTSUP),
    ):
        with raises_errno(number):
            os.getxattr(place, name)
    with raises_errno(errno.EROFS):
        os.setxattr(path, "user.idc.license", b"mine")


def test_sizes_follow_the_rules(ct: Path) -> None:
    """A size of zero asks for the length; a buffer that is too small is ERANGE."""
    program = (
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "path = os.fsencode(sys.argv[1])\n"
        "name, buffer = b'user.dicom.Modality', ctypes.create_string_buffer(1024)\n"
        "print(libc.getxattr(path, name, None, 0), libc.getxattr(path, name, buffer, 2),\n"
        "      libc.getxattr(path, name, buffer, 1), ctypes.get_errno())\n"
        "whole = libc.listxattr(path, None, 0)\n"
        "print(libc.listxattr(path, buffer, whole) == whole,\n"
        "      libc.listxattr(path, buffer, whole - 1), ctypes.get_errno())\n"
    )
    done = subprocess.run(
        ["python3", "-c", program, str(ct)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "2",
        "2",
        "-1",
        str(errno.ERANGE),
        "True",
        "-1",
        str(errno.ERANGE),
    ]


def test_copies_take_them_along(ct: Path, replica: ServedReplica, tmp_path: Path) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    for number, flags in enumerate((["-a"], ["-r", "--preserve=xattr"])):
        copy = tmp_path / str(number)
        done = subprocess.run(
            ["cp", *flags, str(ct), str(copy)], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        for each in objects:
            assert (copy / each.name).read_bytes() == each.path.read_bytes()
        assert getfattr(copy / objects[0].name)["user.idc.license"] == "CC BY 3.0"


def test_cached_follows_the_cache(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    with mount_at(f"--patient-id={series.patient_id}", cache_dir=tmp_path / "cache") as mount:
        path = mount.path / default_path(series) / replica.objects_of(series)[0].name
        assert os.getxattr(path, "user.idc.cached") == b"no"
        path.read_bytes()
        wait_until(lambda: os.getxattr(path, "user.idc.cached") == b"yes", "it is in the cache")
        subprocess.run(["cp", "-r", str(path.parent), str(tmp_path / "copy")], check=True)
        assert os.getxattr(path.parent, "user.idc.cached") == b"yes"


def test_an_index_that_goes_costs_what_it_would_tell_and_no_error(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    """As `pip install --upgrade idc-index-data` does beneath a mount."""
    series = replica.one("CT", collection_id="lidc_idri")
    index = tmp_path / "idc_index.parquet"
    index.write_bytes(Index.open().path.read_bytes())
    expected = "extended attributes tell less"
    with mount_at(f"--index={index}", expected_log=[expected]) as mount:
        index.unlink()
        directory = mount.path / default_path(series)
        with raises_errno(errno.ENODATA):
            os.getxattr(directory, "user.idc.license")
        for command in (["cp", "-a"], ["rsync", "-aX"]):
            done = subprocess.run(
                [*command, str(directory), str(tmp_path / command[0])],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
        ours = {"user.idc.series_uuid", "user.idc.s3_url", "user.idc.cached"}
        assert set(getfattr(directory)) == ours
        assert mount.log.count(expected) == 1


def test_the_daemon_stays_without_duckdb(ct: Path, mounted: Mount) -> None:
    os.getxattr(ct, "user.idc.license")
    with open(f"/proc/{mounted.process.pid}/maps") as maps:  # noqa: PTH123
        assert "duckdb" not in maps.read()
