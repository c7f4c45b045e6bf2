"""`idcfs prefetch` leaves the same files as `idc download` of the same selection."""

from __future__ import annotations

import filecmp
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.config import PATH_VARIABLE
from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from tests.support.replica import ServedReplica

SCRIPT = Path(__file__).with_name("reference_download.py")
REPOSITORY = SCRIPT.parents[2]


def idc_download(endpoint_url: str, *arguments: str) -> None:
    python = Path(
        os.environ.get("IDCFS_REFERENCE_PYTHON", REPOSITORY / ".venv-reference/bin/python")
    )
    if not python.exists():
        pytest.fail(
            f"no reference environment at {python}: `make setup` makes it, or point "
            "IDCFS_REFERENCE_PYTHON at a Python that has idc-index 0.13.4"
        )
    done = subprocess.run(
        [python, SCRIPT, endpoint_url, "download", *arguments],
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
