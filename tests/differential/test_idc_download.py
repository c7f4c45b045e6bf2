"""`idcfs prefetch` leaves the same files as `idc download` of the same selection."""

from __future__ import annotations

import filecmp
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.config import PATH_VARIABLE
from tests.differential.test_idc_index import reference_python
from tests.support.mounting import Launcher
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from tests.support.replica import ServedReplica

SCRIPT = Path(__file__).with_name("reference_download.py")


def idc_download(endpoint_url: str, *arguments: str) -> None:
    done = subprocess.run(
        [reference_python(), SCRIPT, endpoint_url, "download", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def directories_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}


@pytest.mark.parametrize(
    "template",
    [
        None,
        pytest.param("%Modality-%PatientID/%collection_id", marks=pytest.mark.slow),
        pytest.param("", marks=pytest.mark.slow),
    ],
)
def test_the_tree_and_the_bytes_are_the_same(
    replica: ServedReplica, tmp_path: Path, template: str | None
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    chosen = ",".join(
        series.series_instance_uid for series in replica.series if series.modality != "SM"
    )
    hierarchy = [] if template is None else ["--dir-template", template]
    idc_download(replica.endpoint_url, "--download-dir", str(theirs), *hierarchy, chosen)
    done = Launcher(environment={PATH_VARIABLE: os.devnull}).run(
        "prefetch",
        chosen,
        f"--download-dir={ours}",
        f"--endpoint-url={replica.endpoint_url}",
        f"--cache-dir={tmp_path / 'cache'}",
        *hierarchy,
    )
    assert done.returncode == 0, done.stderr
    files = files_below(theirs)
    assert len(files) > 300
    assert files_below(ours) == files
    assert directories_below(ours) == directories_below(theirs)
    same, different, missing = filecmp.cmpfiles(theirs, ours, files, shallow=False)
    assert (len(same), different, missing) == (len(files), [], [])
    with FaultProxy(replica.endpoint_url) as proxy:
        taken = Launcher(environment={PATH_VARIABLE: os.devnull}).run(
            "prefetch",
            chosen,
            f"--from-dir={theirs}",
            f"--endpoint-url={proxy.endpoint_url}",
            f"--cache-dir={tmp_path / 'filled'}",
        )
        assert taken.returncode == 0, taken.stderr
        assert taken.stdout.startswith(f"{len(files)} files fetched")
        assert proxy.log()  # for lists, which what idc left has not
        assert not proxy.log(lambda request: request.is_object)


def test_s5cmd_runs_our_commands(replica: ServedReplica, tmp_path: Path) -> None:
    small = [series for series in replica.series if series.modality in ("RTSTRUCT", "SR", "SEG")]
    chosen = ",".join(series.series_instance_uid for series in small)
    done = Launcher(environment={PATH_VARIABLE: os.devnull}).run(
        "manifest", chosen, "--s5cmd", f"--output={tmp_path / 'commands'}"
    )
    assert done.returncode == 0, done.stderr
    brought = tmp_path / "brought"
    brought.mkdir()
    s5cmd = reference_python().with_name("s5cmd")
    ran = subprocess.run(
        [s5cmd, "--no-sign-request", "--endpoint-url", replica.endpoint_url, "run", "../commands"],
        cwd=brought,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    expected = {each.path.name for series in small for each in replica.objects_of(series)}
    assert {path.name for path in brought.iterdir()} == expected != set()
