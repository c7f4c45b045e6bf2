"""`idcfs manifest --script`: s5cmd alone and idcfs make the same tree of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.differential.test_idc_download import files_below
from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from tests.support.replica import ServedReplica

REPOSITORY = Path(__file__).parents[2]
ABSENT = "rider_pilot"
"""A collection that the replica's server does not hold."""


def find_s5cmd() -> Path:
    python = os.environ.get("IDCFS_REFERENCE_PYTHON", REPOSITORY / ".venv-reference/bin/python")
    s5cmd = Path(python).parent / "s5cmd"
    if not s5cmd.exists():
        pytest.fail(f"no {s5cmd}: `make setup` brings it with idc-index")
    return s5cmd


@pytest.fixture
def only_s5cmd(tmp_path: Path) -> Path:
    """A directory of programs with s5cmd in it."""
    programs = tmp_path / "s5cmd-bin"
    programs.mkdir()
    (programs / "s5cmd").symlink_to(find_s5cmd())
    return programs


@pytest.fixture
def only_idcfs(tmp_path: Path) -> Path:
    """A directory of programs with idcfs in it."""
    programs = tmp_path / "idcfs-bin"
    programs.mkdir()
    program = programs / "idcfs"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m idcfs "$@"\n')
    program.chmod(0o755)
    return programs


def run(
    script: Path, directory: Path, programs: Path, replica: ServedReplica
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, directory],
        env={
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(directory.parent),
            "S3_ENDPOINT_URL": replica.endpoint_url,
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_both_programs_make_the_same_tree_and_mend_it(
    replica: ServedReplica, tmp_path: Path, only_s5cmd: Path, only_idcfs: Path
) -> None:
    chosen = [series for series in replica.series if series.modality in ("CT", "SR", "SEG")]
    script = tmp_path / "run.sh"
    made = Launcher().run(
        "manifest",
        ",".join(series.series_instance_uid for series in chosen),
        f"--script={script}",
        "--dir-template=%PatientID/%SeriesDescription",
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    trees = [tmp_path / "it's a tree", tmp_path / "ours"]
    for tree, programs in zip(trees, (only_s5cmd, only_idcfs), strict=True):
        done = run(script, tree, programs, replica)
        assert done.returncode == 0, done.stderr
    theirs, ours = trees
    lists = [list(tree.glob("idc-files-*.jsonl")) for tree in trees]
    told = [[json.loads(line) for line in path.read_text().splitlines()] for (path,) in lists]
    their_list, our_list = (
        sorted((each["key"], each["etag"], each["size"], each["type"]) for each in lines)
        for lines in told
    )
    assert their_list == our_list
    assert [path.name for (path,) in lists] == [lists[0][0].name] * 2
    for (path,) in lists:
        path.unlink()
    files = files_below(theirs)
    assert len(our_list) == len(files)
    assert files == files_below(ours)
    objects = sum(len(replica.objects_of(series)) for series in chosen)
    assert len(files) == objects
    one, other = sorted(files)[:2]
    (theirs / one).unlink()
    (theirs / other).write_bytes(b"")
    assert run(script, theirs, only_s5cmd, replica).returncode == 0
    for name in (one, other):
        assert (theirs / name).read_bytes() == (ours / name).read_bytes()


def test_what_cannot_be_had_is_told_at_the_end(
    replica: ServedReplica, tmp_path: Path, only_s5cmd: Path
) -> None:
    script = tmp_path / "run.sh"
    made = Launcher().run(
        "manifest", ABSENT, "--where=instanceCount = 1", "--modality=SR", f"--script={script}"
    )
    assert made.returncode == 0, made.stderr
    done = run(script, tmp_path / "tree", only_s5cmd, replica)
    assert done.returncode == 1
    assert "has 0 files" in done.stderr
    assert "run it again" in done.stderr
