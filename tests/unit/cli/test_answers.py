"""size, manifest and query on the real index."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]

WHOLE = {"series": 1_044_191, "instances": 58_784_975}
RIDER = "rider_pilot"


def test_size_of_everything(idcfs: Idcfs) -> None:
    figures = json.loads(idcfs("size", "--json").stdout)
    assert figures["series"] == WHOLE["series"]
    assert figures["instances"] == WHOLE["instances"]
    assert round(figures["bytes"] / 1e12, 2) == 99.94


def test_size_is_readable_without_json(idcfs: Idcfs) -> None:
    assert "series  1,044,191\nfiles   58,784,975\nsize    99.94" in idcfs("size").stdout


def test_identifiers_add_up_and_options_narrow(idcfs: Idcfs) -> None:
    def series(*arguments: str) -> int:
        done = idcfs("size", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["series"])

    both = series("rider_pilot", "lctsc")
    assert both == series("rider_pilot,lctsc") == series("rider_pilot") + series("lctsc")
    assert series("rider_pilot,lctsc", "--collection-id", "lctsc") == series("lctsc")
    assert series("lctsc") == series("lctsc", "--modality", "CT") + series(
        "lctsc", "--where", "Modality <> 'CT'"
    )


def test_a_manifest_given_as_option_narrows_and_as_identifier_adds(
    idcfs: Idcfs, tmp_path: Path
) -> None:
    path = tmp_path / "both.txt"
    idcfs("manifest", "rider_pilot,lctsc", "--output", str(path))
    one, both = (idcfs("size", "--json", each).stdout for each in (RIDER, "rider_pilot,lctsc"))
    assert idcfs("size", "--json", RIDER, "--manifest", str(path)).stdout == one
    assert idcfs("size", "--json", RIDER, str(path)).stdout == both


def test_a_manifest_may_come_through_a_pipe(idcfs: Idcfs, tmp_path: Path) -> None:
    text = idcfs("manifest", RIDER).stdout
    expected = idcfs("size", "--json", RIDER).stdout
    for arguments in (["--manifest", "-"], ["--manifest", "/dev/stdin"], ["/dev/stdin"]):
        done = Launcher().run("size", "--json", *arguments, stdin=text)
        assert (done.stdout, done.stderr) == (expected, "")


def test_upper_case_uuids_are_known(idcfs: Idcfs) -> None:
    uuid = idcfs("manifest", RIDER).stdout.split("/")[3]
    for arguments in ([uuid.upper()], ["--crdc-series-uuid", uuid.upper()]):
        done = idcfs("manifest", *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("/")[3] == uuid


def test_what_is_unknown_is_told_and_the_rest_goes_on(idcfs: Idcfs) -> None:
    done = idcfs("size", "--json", "rider_pilot,nlts")
    assert done.returncode == 1
    assert json.loads(done.stdout)["series"] > 0
    assert done.stderr.startswith("idcfs: no identifier 'nlts' in IDC v25; nearest: nlst")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--collection-id", "nlts"], "no collection 'nlts' in IDC v25; nearest: nlst"),
        (["nlts"], "no identifier 'nlts' in IDC v25; nearest: nlst"),
        (["nlts.x"], "no identifier 'nlts.x' in IDC v25, nor a file of that name; nearest: nlst"),
        (["/tmp"], "no identifier '/tmp' in IDC v25, and what is there by that name is a direct"),
        (["\udcff\udcfe"], "no identifier '\\udcff\\udcfe' in IDC v25"),
        (["--collection-id", "\udcff"], "no collection '\\udcff' in IDC v25"),
        (["rider_pilot", "--modality", "SM"], "the selection picks no series of IDC v25"),
        ([""], "no identifier given"),
        ([" , "], "no identifier given"),
        (["--manifest", "/dev/null"], "the manifest /dev/null has no entries"),
        (["/dev/null"], "the manifest /dev/null has no entries"),
        (["--where", ""], "--where is empty"),
        (["--collection-id", ""], "--collection-id is empty"),
        (["--modality", "CT", "--patient-id", " , "], "--patient-id is empty"),
        (["--where", "nonsense = 1"], "--where 'nonsense = 1'"),
    ],
)
def test_what_picks_nothing_is_a_usage_error(
    idcfs: Idcfs, arguments: list[str], message: str
) -> None:
    done = idcfs("size", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("idcfs: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["size", RIDER, "--index", ""],
        ["size", "--manifest", ""],
        ["manifest", RIDER, "--output", ""],
        ["prefetch", RIDER, "--dry-run", "--download-dir", ""],
        ["prefetch", RIDER, "--dry-run", "--cache-dir", ""],
        ["doctor", "--cache-dir", ""],
    ],
)
def test_an_empty_path_is_not_the_current_directory(idcfs: Idcfs, arguments: list[str]) -> None:
    done = idcfs(*arguments)
    assert done.returncode == 2
    assert "the path is empty" in done.stderr


@pytest.fixture
def homeless() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `idcfs` as a user that the system does not know, with no variable set."""
    if os.getuid() != 0:
        pytest.skip("only root can become someone else")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        # The same interpreter and no files: its directory may be closed to others.
        code = (
            "import os, sys\n"
            "import idcfs.catalog.catalog, idcfs.cli.main, idcfs.cli.size, idcfs.cli.prefetch\n"
            "import idc_index_data, platformdirs\n"
            "os.setuid(12345)\n"
            f"sys.argv = ['idcfs', *{arguments!r}]\n"
            "idcfs.cli.main.main()\n"
        )
        return subprocess.run(
            [sys.executable, "-c", code], env={}, capture_output=True, text=True, check=False
        )

    return run


def test_without_a_home_directory(homeless: Idcfs) -> None:
    done = homeless("size", RIDER)
    assert (done.returncode, done.stderr) == (0, "")
    done = homeless("prefetch", RIDER, "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith("idcfs: you have no home directory")
    assert "--cache-dir" in done.stderr


def test_doctor_does_not_make_the_cache_directory(idcfs: Idcfs, tmp_path: Path) -> None:
    def cache_finding(directory: Path) -> dict[str, object]:
        unreachable = "http://127.0.0.1:9"
        done = idcfs(
            "doctor", "--json", "--cache-dir", str(directory), "--endpoint-url", unreachable
        )
        return next(each for each in json.loads(done.stdout) if each["subject"] == "cache")

    missing = tmp_path / "a" / "b"
    found = cache_finding(missing)
    assert found["ok"]
    assert "can be made" in str(found["detail"])
    assert not missing.parent.exists()
    (tmp_path / "file").touch()
    assert not cache_finding(tmp_path / "file" / "cache")["ok"]
    (tmp_path / "empty").mkdir()
    assert "can be written" in str(cache_finding(tmp_path / "empty")["detail"])
    assert not list((tmp_path / "empty").iterdir())


def test_many_identifiers_are_not_taken_for_a_name(idcfs: Idcfs) -> None:
    many = ",".join(["rider_pilot", *(f"1.2.3.{n}" for n in range(40))])
    done = idcfs("size", "--json", many)
    assert done.returncode == 1
    assert json.loads(done.stdout) == json.loads(idcfs("size", "--json", RIDER).stdout)
    assert done.stderr.endswith("idcfs: and 20 more like these\n")


def test_a_manifest_comes_back_as_what_it_was_made_of(idcfs: Idcfs, tmp_path: Path) -> None:
    path = tmp_path / "rider.txt"
    assert idcfs("manifest", RIDER, "--output", str(path)).returncode == 0
    lines = path.read_text().splitlines()
    assert all(line.startswith("s3://idc-open-data") and line.endswith("/*") for line in lines)
    assert len(set(lines)) == len(lines)
    assert idcfs("manifest", RIDER).stdout.splitlines() == lines
    expected = idcfs("size", "--json", RIDER).stdout
    assert idcfs("size", "--json", str(path)).stdout == expected
    assert idcfs("size", "--json", "--manifest", str(path)).stdout == expected


def test_broken_manifest_lines_are_told_one_by_one(idcfs: Idcfs, tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    idcfs("manifest", RIDER, "--output", str(path))
    path.write_text("garbage\n" + path.read_text() + "s3://elsewhere/x/*\n")
    done = idcfs("size", str(path))
    assert done.returncode == 1
    assert f"idcfs: {path}, line 1: " in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_manifest_replaces_its_file_at_once(idcfs: Idcfs, tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text("old")
    done = idcfs("manifest", "--collection-id", "nlts", "--output", str(path))
    assert done.returncode == 2
    assert path.read_text() == "old"
    assert idcfs("manifest", RIDER, "--output", str(path)).returncode == 0
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.listdir(tmp_path).count("m.txt") == 1
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("option", ["--output", "--script"])
def test_a_manifest_to_dev_stdout_keeps_what_its_file_held(
    settings: Path, tmp_path: Path, option: str
) -> None:
    path = tmp_path / "m.txt"
    path.write_text("old\n")
    mode = path.stat().st_mode
    with path.open("a") as file:
        command = Launcher().command("manifest", RIDER, option, "/dev/stdout")
        subprocess.run(command, stdout=file, check=True)
    first, *others = path.read_text().splitlines()
    assert first == "old"
    assert others
    assert path.stat().st_mode == mode


def test_a_manifest_that_cannot_be_written_is_reported(idcfs: Idcfs, tmp_path: Path) -> None:
    done = idcfs("manifest", RIDER, "--output", str(tmp_path / "no" / "m.txt"))
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr
    assert idcfs("manifest", RIDER, "--output", "/dev/full").returncode == 2


def test_a_report_does_not_go_where_the_summary_goes(idcfs: Idcfs) -> None:
    done = idcfs("prefetch", RIDER, "--dry-run", "--report", "-")
    assert done.returncode == 2
    assert "--report takes a file" in done.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [(["prefetch", "--dry-run"], "--download-dir"), (["manifest"], "--script")],
)
def test_a_template_without_a_place_is_a_usage_error(
    idcfs: Idcfs, command: list[str], option: str
) -> None:
    done = idcfs(*command, RIDER, "--dir-template=%nonsense")
    assert done.returncode == 2
    assert option in done.stderr
    assert done.stderr.count("\n") == 1
    # A variable may be meant for a mount.
    assert idcfs(*command, RIDER, IDCFS_DIR_TEMPLATE="%PatientID").returncode == 0


SQL = (
    "SELECT 'a' AS text, 1 AS number, NULL AS nothing, DATE '2020-01-02' AS day, "
    "[1, 2] AS list, 'x,\"y' AS odd, 'nan'::DOUBLE AS nan"
)


def test_query_as_json(idcfs: Idcfs) -> None:
    assert json.loads(idcfs("query", SQL, "--format", "json").stdout) == [
        {
            "text": "a",
            "number": 1,
            "nothing": None,
            "day": "2020-01-02",
            "list": [1, 2],
            "odd": 'x,"y',
            "nan": None,
        }
    ]
    assert json.loads(idcfs("query", "SELECT 1 WHERE false", "--format", "json").stdout) == []


def test_query_has_the_json_of_other_commands(idcfs: Idcfs, settings: Path) -> None:
    sql = "SELECT 1 AS a"
    for more in ([], ["--format", "json"]):
        assert json.loads(idcfs("query", sql, "--json", *more).stdout) == [{"a": 1}]
    done = idcfs("query", sql, "--json", "--format", "csv")
    assert done.returncode == 2
    assert "--json and --format csv exclude each other" in done.stderr
    settings.write_text('[query]\nformat = "csv"\n')
    assert json.loads(idcfs("query", sql, "--json").stdout) == [{"a": 1}]
    settings.write_text("json = true\n")
    assert idcfs("query", sql, "--format", "csv").stdout == "a\n1\n"


def test_numbers_blobs_and_equal_names(idcfs: Idcfs) -> None:
    sql = (
        "SELECT 1.25::DECIMAL(5,2) AS x, 3::DECIMAL(38,0) AS x, 'a\\xFF'::BLOB AS b, "
        "[0.5::DECIMAL(5,2)] AS l, timestamptz '2020-01-01 00:30:00+02' AS t"
    )
    (row,) = json.loads(idcfs("query", sql, "--format", "json").stdout)
    assert row == {"x": 1.25, "x_2": 3, "b": "61ff", "l": [0.5], "t": "2019-12-31 22:30:00+00"}
    header, line = csv.reader(io.StringIO(idcfs("query", sql, "--format", "csv").stdout))
    assert (header[:3], line[:3]) == (["x", "x_2", "b"], ["1.25", "3", "61ff"])
    table = idcfs("query", sql).stdout.splitlines()
    assert table[0].split() == ["x", "x_2", "b", "l", "t"]
    assert table[2].split()[:3] == ["1.25", "3", "61ff"]


def test_query_as_csv(idcfs: Idcfs) -> None:
    header, row = csv.reader(io.StringIO(idcfs("query", SQL, "--format", "csv").stdout))
    assert header[:3] == ["text", "number", "nothing"]
    assert row[:6] == ["a", "1", "", "2020-01-02", "[1, 2]", 'x,"y']


def test_query_as_table(idcfs: Idcfs) -> None:
    sql = "SELECT range AS n, repeat('x', range::INT % 7) AS x FROM range(3000)"
    lines = idcfs("query", sql).stdout.splitlines()
    assert lines[:2] == ["  n  x", "---  ------"]
    assert lines[2:5] == ["  0", "  1  x", "  2  xx"]
    assert len(lines) == 3002


def test_a_table_cannot_write_to_the_terminal(idcfs: Idcfs) -> None:
    out = idcfs("query", "SELECT chr(27) || '[31m' || chr(10) AS a").stdout
    assert "\x1b" not in out
    assert out.count("\n") == 3


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM index", "DROP TABLE index"])
def test_wrong_sql_is_a_usage_error(idcfs: Idcfs, sql: str) -> None:
    done = idcfs("query", sql)
    assert done.returncode == 2
    assert done.stderr.startswith("idcfs: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "arguments", "status", "message"),
    [
        ("lctsc\nrider_pilot\n", ["-"], 0, ""),
        ("lctsc\n", ["-", "rider_pilot"], 0, ""),
        ("# nlts\nlctsc\n  # ours\nrider_pilot", ["-"], 0, ""),
        ("rider_pilot, lctsc, nlts", ["-"], 1, "no identifier 'nlts'"),
        ("", ["-"], 2, "no identifier given"),
        ("s3://idc-open-data/x/*\n", ["-"], 2, "--manifest - takes it"),
        ("", ["--manifest", "-"], 2, "idcfs: standard input has no entries"),
        ("x\n", ["--manifest", "-"], 2, "standard input, line 1: not an entry"),
    ],
)
def test_identifiers_may_come_on_standard_input(
    text: str, arguments: list[str], status: int, message: str
) -> None:
    done = Launcher().run("size", "--json", *arguments, stdin=text)
    assert done.returncode == status
    assert message in done.stderr
    if status < 2:
        assert json.loads(done.stdout)["series"] == 894


def test_a_script_is_written_whole_and_can_be_run(idcfs: Idcfs, tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    done = idcfs("manifest", "rider_pilot", "--script", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    text = path.read_text()
    assert idcfs("manifest", "rider_pilot", "--script", "-").stdout == text
    kept = tmp_path / "kept"
    kept.write_text(text[text.index("# manifest:") :])
    expected = idcfs("size", "--json", "rider_pilot").stdout
    assert idcfs("size", "--json", str(kept)).stdout == expected
    done = idcfs("manifest", "rider_pilot", "--script", str(path), "--output", "x")
    assert done.returncode == 2
    assert "takes the place of --output" in done.stderr


@pytest.mark.slow
def test_a_manifest_of_a_million_lines_is_read(idcfs: Idcfs, tmp_path: Path) -> None:
    path = tmp_path / "everything"
    idcfs("manifest", "--output", str(path))
    with path.open("a") as file:
        file.write("this is no entry\n")
    done = idcfs("size", "--json", str(path))
    assert json.loads(done.stdout)["series"] == WHOLE["series"]
    assert done.returncode == 1
    assert f"line {WHOLE['series'] + 1}: not an entry" in done.stderr


def test_diff_tells_and_its_manifest_can_be_selected(idcfs: Idcfs, tmp_path: Path) -> None:
    told = json.loads(idcfs("diff", "--json", "v24", "25").stdout)
    assert {each["kind"] for each in told} <= {"added", "revised", "removed"}
    came = sum(each["series_count"] for each in told if each["kind"] != "removed")
    path = tmp_path / "new.txt"
    path.write_text(idcfs("diff", "24", "25", "--manifest").stdout)
    assert json.loads(idcfs("size", "--json", "--manifest", str(path)).stdout)["series"] == came
    assert "added" in idcfs("diff", "24", "25").stdout
    for wrong in (("24", "9999"), ("24", "soon")):
        done = idcfs("diff", *wrong)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].count("release") >= 1
