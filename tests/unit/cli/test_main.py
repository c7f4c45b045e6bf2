"""The command line as a whole: exit statuses, messages, where settings come from."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from idcfs.cli import main as main_module
from idcfs.cli.main import idcfs_command
from idcfs.errors import IdcfsError, MountError, UsageError
from tests.support.mounting import REPOSITORY, Launcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = ["mount", "umount", "prefetch", "manifest", "size", "query", "doctor"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from idcfs.cli.main import main\n"
        f"sys.argv = ['idcfs', *{arguments}]\n"
        "try: main()\n"
        "except SystemExit as exc: assert not exc.code\n"
        "heavy = {'duckdb', 'botocore', 'trio', 'pyfuse3', 'tqdm', 'platformdirs'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(("closed", "number"), [("<&-", 0), (">&-", 1)])
def test_a_closed_standard_stream_is_mended_for_processes_that_are_started(
    closed: str, number: int
) -> None:
    code = (
        "import subprocess, sys\n"
        "from idcfs.cli.main import _mend_streams\n"
        "_mend_streams()\n"
        "sys.exit(subprocess.run(['sh', '-c', 'test -e /proc/self/fd/' + sys.argv[1]]).returncode)"
    )
    done = subprocess.run(
        ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-c", code, str(number)],
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_and_a_log_level(idcfs: Idcfs, command: str) -> None:
    done = idcfs(command, "--help")
    assert done.returncode == 0
    assert "--log-level" in done.stdout


def test_an_unknown_command_or_option_is_a_usage_error(idcfs: Idcfs) -> None:
    done = idcfs("mont", "x")
    assert done.returncode == 2
    assert (
        done.stderr == "idcfs: idcfs --help: no command is called 'mont'; did you mean 'mount'?\n"
    )
    assert idcfs("size", "--colection-id", "x").returncode == 2


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (UsageError("no such\nthing"), 2, "idcfs: no such thing\n"),
        (MountError("busy"), 1, "idcfs: busy\n"),
        (IdcfsError("\x1b[31mred"), 1, "idcfs: \N{REPLACEMENT CHARACTER}[31mred\n"),
        (KeyboardInterrupt(), 130, "idcfs: interrupted\n"),
        (RuntimeError("Query interrupted"), 130, "idcfs: interrupted\n"),
    ],
)
def test_errors_become_one_line_and_a_status(
    raised: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_raising(raised, monkeypatch) == status
    assert capsys.readouterr().err.lstrip("\n") == said


def test_a_bug_is_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(ZeroDivisionError("by\nzero"), monkeypatch) == 1
    said = capsys.readouterr().err
    assert said.startswith("idcfs: unexpected ZeroDivisionError: by zero; this is a bug")
    assert said.count("\n") == 1


def run_raising(raised: BaseException, monkeypatch: pytest.MonkeyPatch) -> object:
    @click.command()
    def size() -> None:
        raise raised

    monkeypatch.setattr(main_module, "_load", lambda name: size)
    monkeypatch.setenv("IDCFS_CONFIG", os.devnull)
    monkeypatch.setattr(sys, "argv", ["idcfs", "size"])
    with pytest.raises(SystemExit) as caught:
        main_module.main()
    return caught.value.code


def test_debug_shows_the_traceback(idcfs: Idcfs) -> None:
    done = idcfs("size", "--log-level", "debug", "--index", "/nowhere.parquet")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "Traceback" not in idcfs("size", "--index", "/nowhere.parquet").stderr


def test_the_log_level_may_stand_before_the_command(idcfs: Idcfs) -> None:
    done = idcfs(
        "--log-level", "debug", "size", "--index", "/nowhere.parquet", IDCFS_LOG_LEVEL="error"
    )
    assert "Traceback" in done.stderr


def test_a_reader_that_leaves_is_not_an_error_to_tell() -> None:
    done = subprocess.run(
        f"{sys.executable} -m idcfs query 'SELECT SeriesInstanceUID FROM index' --format csv"
        " | head -n 2",
        shell=True,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("SeriesInstanceUID\n")
    assert done.stderr == ""


def format_of(idcfs: Idcfs, *arguments: str, **variables: str) -> str:
    """Return the form in which `query` answers, as one option that shows where it came from."""
    done = idcfs("query", "SELECT 1 AS a, 2 AS b", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return {"a  b": "table", "a,b": "csv", "[": "json"}[done.stdout.splitlines()[0]]


def test_flags_win_over_variables_over_the_file(idcfs: Idcfs, settings: Path) -> None:
    assert format_of(idcfs) == "table"
    settings.write_text('format = "csv"\n')
    assert format_of(idcfs) == "csv"
    settings.write_text('format = "table"\n[query]\nformat = "csv"\n')
    assert format_of(idcfs) == "csv"
    assert format_of(idcfs, IDCFS_FORMAT="json") == "json"
    assert format_of(idcfs, IDCFS_FORMAT="json", IDCFS_QUERY_FORMAT="table") == "table"
    assert format_of(idcfs, "--format", "csv", IDCFS_FORMAT="json") == "csv"


def test_a_variable_holds_several_identifiers_with_blanks(idcfs: Idcfs) -> None:
    done = idcfs("size", "--json", IDCFS_PATIENT_ID="ZZ RIDER MR8 1,100012")
    assert done.returncode == 0, done.stderr


def test_a_list_in_the_file_sets_a_repeatable_option(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text('[size]\npatient-id = ["ZZ RIDER MR8 1", "100012"]\n')
    several = idcfs("size", "--json").stdout
    settings.write_text('[size]\npatient-id = "ZZ RIDER MR8 1,100012"\n')
    assert idcfs("size", "--json").stdout == several != ""


def test_a_wrong_file_is_named(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text("[prefetch]\njob = 3\n")
    done = idcfs("size")
    assert done.returncode == 2
    assert done.stderr == (
        f"idcfs: {settings}: no option of prefetch is called 'job'; did you mean 'jobs'?\n"
    )


def test_a_home_directory_in_the_file_is_found(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text('index = "~/no-such-index.parquet"\n')
    done = idcfs("size", HOME="/nowhere/home")
    assert "/nowhere/home/no-such-index.parquet" in done.stderr


def test_every_summary_is_that_of_its_command() -> None:
    ctx = click.Context(idcfs_command)
    for name in COMMANDS:
        command = idcfs_command.get_command(ctx, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize(
    "arguments",
    [
        ["size", "rider_pilot"],
        ["manifest", "rider_pilot"],
        ["manifest"],
        ["query", "SELECT * FROM index LIMIT 9000", "--format", "csv"],
        ["tables"],
        ["--help"],
    ],
)
def test_a_full_standard_output_is_named(settings: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  # a device
        done = subprocess.run(
            Launcher().command(*arguments),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "idcfs: cannot write to standard output: No space left on device\n"
