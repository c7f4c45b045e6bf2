"""Several trees side by side under one mount."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_refresh import leaves, refresh, some, status
from tests.fuse.test_tree import default_path
from tests.support.indexes import write_index
from tests.support.mounting import Launcher, Mount, raises_errno

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from idcfs.demo.series import ReplicaSeries
    from tests.support.replica import ServedReplica

__all__ = ["some"]


def by_modality(series: ReplicaSeries) -> str:
    return f"by-modality/{series.modality}/{series.collection_id}/{series.patient_id}"


def by_default(view: str, series: ReplicaSeries) -> str:
    return f"{view}/{default_path(series)}"


def line(series: ReplicaSeries) -> str:
    return f"s3://{series.bucket}/{series.uuid}/*\n"


def test_an_instance_is_one_file_in_every_view_that_shows_it(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    tmp_path: Path,
    some: list[ReplicaSeries],  # a fixture
) -> None:
    index, manifest = tmp_path / "index.parquet", tmp_path / "cohort.txt"
    write_index(index, some)
    cohort = some[2:5]
    manifest.write_text("".join(map(line, cohort)))
    first = cohort[0]
    with mount_at(
        f"--index={index}",
        "--view=by-modality=%Modality/%collection_id/%PatientID",
        f"--view=cohort=@{manifest}",
        f"--view=one=/?SeriesInstanceUID = '{first.series_instance_uid}'",
        cache_dir=tmp_path / "cache",
    ) as mount:
        assert sorted(os.listdir(mount.path)) == ["by-modality", "cohort", "one"]
        assert leaves(mount) == {
            *map(by_modality, some),
            *(by_default("cohort", each) for each in cohort),
            "one",
        }
        name = replica.objects_of(first)[0].name
        places = [by_modality(first), by_default("cohort", first), "one"]
        found = [(mount.path / place / name).stat() for place in places]
        assert len({each.st_ino for each in found}) == 1
        assert {each.st_nlink for each in found} == {3}
        content = replica.objects_of(first)[0].path.read_bytes()
        assert [(mount.path / place / name).read_bytes() for place in places] == [content] * 3
        assert status(mount)["objects"]["fetched"] == 1
        # In one view only, and with other files of its patient in the same directory.
        other = next(each for each in some if each not in cohort)
        alone = mount.path / by_modality(other) / replica.objects_of(other)[0].name
        assert alone.stat().st_nlink == 1
        # Each series is counted and told once.
        assert status(mount)["series"] == len(some)
        assert status(mount)["files"] == sum(each.instance_count for each in some)
        told = (mount.path / ".idcfs" / "manifest").read_text().splitlines()
        assert sorted(told) == sorted(line(each).strip() for each in some)
        for place, attribute, value in (
            (by_modality(first), "user.dicom.PatientID", first.patient_id),
            (by_modality(first), "user.dicom.Modality", first.modality),
            (by_default("cohort", first), "user.idc.series_uuid", first.uuid),
            (f"{places[0]}/{name}", "user.idc.series_uuid", first.uuid),
        ):
            assert os.getxattr(mount.path / place, attribute).decode() == value
        assert os.listxattr(mount.path) == os.listxattr(mount.path / "cohort") == []
        with raises_errno(errno.ENOENT):
            (mount.path / "by-modality" / "cohort").stat()


def test_views_go_on_to_another_index(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    tmp_path: Path,
    some: list[ReplicaSeries],  # a fixture
) -> None:
    index, manifest = tmp_path / "index.parquet", tmp_path / "cohort.txt"
    write_index(index, some[:9])
    manifest.write_text("".join(map(line, some[:4])))
    staying, name = some[3], replica.objects_of(some[3])[0].name
    with mount_at(
        f"--index={index}",
        "--view=by-modality=%Modality/%collection_id/%PatientID",
        f"--view=cohort=@{manifest}",
        f"--view=flat=/@{manifest}",
        cache_dir=tmp_path / "cache",
    ) as mount:

        def check(everything: Sequence[ReplicaSeries], cohort: Sequence[ReplicaSeries]) -> None:
            assert leaves(mount) == {
                *map(by_modality, everything),
                *(by_default("cohort", each) for each in cohort),
                "flat",
            }
            shown = sorted(each.name for series in cohort for each in replica.objects_of(series))
            assert sorted(os.listdir(mount.path / "flat")) == shown
            for each in some:
                file = mount.path / "flat" / replica.objects_of(each)[0].name
                assert file.exists() == (each in cohort)
                assert (mount.path / by_default("cohort", each)).exists() == (each in cohort)
            for place in (by_modality(staying), by_default("cohort", staying), "flat"):
                found = (mount.path / place / name).stat()
                assert (found.st_ino, found.st_nlink) == (number, 3)

        number = (mount.path / "flat" / name).stat().st_ino
        check(some[:9], some[:4])
        write_index(index, some[2:], backwards=True)
        manifest.write_text("".join(map(line, some[3:6])))
        with (mount.path / "flat" / replica.objects_of(some[0])[0].name).open("rb") as held:
            done = refresh(mount)
            assert (done.returncode, done.stderr) == (0, "")
            assert "10 series, 3 came and 2 went" in done.stdout
            check(some[2:], some[3:6])
            assert held.read() == replica.objects_of(some[0])[0].path.read_bytes()


def test_views_of_a_described_mount(
    mount_at: Callable[..., Mount],
    tmp_path: Path,
    some: list[ReplicaSeries],  # a fixture
) -> None:
    index, path, config = tmp_path / "index.parquet", tmp_path / "mnt", tmp_path / "config.toml"
    write_index(index, some)
    config.write_text(
        f'[mounts.all]\nmountpoint = "{path}"\nindex = "{index}"\n'
        '[mounts.all.views]\n"by-modality" = "%Modality/%collection_id/%PatientID"\n'
        "CT = \"?Modality = 'CT'\"\n"
    )
    launcher = Launcher(environment={"IDCFS_CONFIG": str(config)})
    with mount_at("--name=all", launcher=launcher, cache_dir=tmp_path / "cache") as mount:
        tomographies = [each for each in some if each.modality == "CT"]
        assert leaves(mount) == {
            *map(by_modality, some),
            *(by_default("CT", each) for each in tomographies),
        }
        shown = launcher.run("config", "show", "--name=all", "--json")
        value = json.loads(shown.stdout)["mounts"]["all"]["view"]["value"]
        assert value == ["by-modality=%Modality/%collection_id/%PatientID", "CT=?Modality = 'CT'"]


@pytest.mark.parametrize(
    ("views", "reason"),
    [
        (["a=%Modality", "a=%PatientID"], "two views are called 'a'"),
        (["a=@/nowhere"], "cannot read the manifest /nowhere"),
        (["a=?Modality = 'nothing'"], "view 'a': the selection picks no series"),
        (["a=", "b=/"], "view 'b': a flat mount would put"),
    ],
)
def test_what_makes_no_sense_is_told(
    layouts: Path, tmp_path: Path, views: list[str], reason: str
) -> None:
    options = [f"--view={view}" for view in views]
    done = Launcher().run("mount", f"--cache-dir={layouts}", *options, str(tmp_path))
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("idcfs: ") <= 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
