"""`idcfs config show`, and the mounts that a configuration file describes."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]

LUNG = """
source = "gcs"
cache-dir = "~/cache"

[mount]
allow-other = true

[mounts.lung]
mountpoint = "~/lung"
collection-id = ["rider_pilot", "lctsc"]
jobs = 4
"""


def shown(idcfs: Idcfs, *arguments: str, **variables: str) -> dict[str, Any]:
    done = idcfs("config", "show", "--json", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_value_says_where_it_comes_from(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text(LUNG)
    told = shown(idcfs, IDCFS_MOUNT_UID="7", HOME="/home/ada")
    mount, doctor = told["commands"]["mount"], told["commands"]["doctor"]
    assert mount["uid"] == {"value": "7", "from": "environment", "where": "IDCFS_MOUNT_UID"}
    assert mount["allow-other"] == {"value": True, "from": "file", "where": f"{settings} [mount]"}
    assert mount["source"] == doctor["source"]
    assert doctor["source"] == {"value": "gcs", "from": "file", "where": str(settings)}
    assert mount["cache-dir"]["value"] == "/home/ada/cache"
    assert mount["dir-mode"] == {"value": "0555", "from": "default", "where": None}
    assert mount["verify-reads"]["value"] is False
    assert mount["endpoint-url"]["value"] is None
    assert {"path": str(settings), "read": True} in told["files"]
    assert [each["read"] for each in told["files"]] == [False, True]


def test_a_described_mount_has_the_options_of_mount_and_prefetch(
    idcfs: Idcfs, settings: Path
) -> None:
    settings.write_text(LUNG)
    told = shown(idcfs, "--name", "lung")
    assert told["commands"] == {}
    lung = told["mounts"]["lung"]
    assert next(iter(lung)) == "mountpoint"
    assert lung["collection-id"]["value"] == ["rider_pilot", "lctsc"]
    assert lung["collection-id"]["where"] == f"{settings} [mounts.lung]"
    assert lung["allow-other"]["value"] is True
    assert lung["jobs"]["value"] == 4
    assert lung["source"]["where"] == str(settings)


def test_without_json_it_is_toml_with_remarks(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text(LUNG)
    done = idcfs("config", "show", IDCFS_MIN_FREE="7G")
    assert done.stderr == ""
    told = tomllib.loads(done.stdout)
    assert told["mount"]["min-free"] == told["prefetch"]["min-free"] == "7G"
    assert told["mounts"]["lung"]["jobs"] == 4
    assert "uid" not in told["mount"]
    assert "# uid is not set" in done.stdout.splitlines()
    line = next(line for line in done.stdout.splitlines() if line.startswith("allow-other"))
    assert line.endswith(f"# {settings} [mount]")


def test_one_command_alone(idcfs: Idcfs) -> None:
    assert list(shown(idcfs, "query")["commands"]) == ["query"]
    done = idcfs("config", "show", "qery")
    assert done.returncode == 2
    assert "did you mean 'query'?" in done.stderr


def test_a_value_that_makes_no_sense_is_told_with_its_place(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text('[prefetch]\njobs = "many"\n')
    done = idcfs("config", "show")
    assert done.returncode == 2
    assert f"{settings} [prefetch]: jobs: 'many' is not" in done.stderr
    settings.unlink()
    done = idcfs("config", "show", IDCFS_CACHE_SIZE="lots")
    assert done.returncode == 2
    assert done.stderr.startswith("idcfs: IDCFS_CACHE_SIZE: 'lots'")


@pytest.mark.parametrize(
    ("command", "table"),
    [("config show", "mount"), ("size", "size"), ("mount --name a", "mounts.a"), ("size", "")],
)
def test_a_wrong_value_names_the_file_or_the_variable_it_is_from(
    idcfs: Idcfs, settings: Path, command: str, table: str
) -> None:
    bare = f"[{table}]\n" * bool(table) + "mountpoint = '/x'\n" * table.startswith("mounts")
    settings.write_text(f"{bare}analysis-results = 'x'\n")
    done = idcfs(*command.split())
    assert done.returncode == 2
    place = f"{settings} [{table}]" if table else str(settings)
    assert done.stderr.startswith(f"idcfs: {place}: analysis-results: 'x' is not one of")
    assert done.stderr.count("\n") == 1
    settings.write_text(bare)
    done = idcfs(*command.split(), IDCFS_ANALYSIS_RESULTS="x")
    assert done.returncode == 2
    assert done.stderr.startswith("idcfs: IDCFS_ANALYSIS_RESULTS: 'x' is not one of")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("cache info", "cache-dir = 3", ": cache-dir takes a path in quotes, not 3"),
        ("size", "index = [1]", ": index takes one value, not a list"),
        ("size", "index = true", ": index takes a path in quotes, not true"),
        ("size", 'manifest = ["cohort.txt"]', ": manifest takes one value, not a list"),
        ("prefetch", "report = 5", ": report takes a path in quotes, not 5"),
        ("prefetch", "jobs = [3]", ": jobs takes one value, not a list"),
        ("mount --name a", "[mounts.a]\nmountpoint = 3", " [mounts.a]: mountpoint takes a path"),
        ("umount --name a", "[mounts.a]\nmountpoint = ['/x']", " [mounts.a]: mountpoint takes one"),
        (
            "mount --name a",
            "[mounts.a]\nmountpoint = ''",
            " [mounts.a]: mountpoint: the path is em",
        ),
        ("cache info", 'cache-dir = ""', ": cache-dir: the path is empty"),
        ("cache info", "cache-dir = '~nobody-such/x'", ": cache-dir: there is no home directory"),
    ],
)
def test_what_is_no_path_is_told_with_its_place(
    idcfs: Idcfs, settings: Path, command: str, text: str, said: str
) -> None:
    settings.write_text(f"{text}\n")
    for arguments in (command.split(), ["config", "show"]):
        done = idcfs(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"idcfs: {settings}{said}")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("", ["--uid", "99999999999"], "'--uid': it must be a number from 0 to 4294967294, not '9"),
        ("", ["--dir-mode", "888"], "'--dir-mode': it must be permission bits in octal, such as"),
        ("", ["-o", "gid=x"], "idcfs: -o gid must be a number from 0 to 4294967294, not 'x'"),
        ("[mount]\nuid = -1", [], " [mount]: uid: it must be a number from 0 to"),
        (
            "dir-mode = 0o755",
            [],
            ": dir-mode: it must be permission bits in octal, such as 0555, an",
        ),
        ("mount-options = 'uid=x'", [], "idcfs: -o uid must be a number"),
    ],
)
def test_whose_the_files_are_is_checked_where_it_is_said(
    idcfs: Idcfs, settings: Path, text: str, flags: list[str], said: str
) -> None:
    settings.write_text(text)
    done = idcfs("mount", *flags, "/nowhere")
    assert done.returncode == 2
    assert said in done.stderr


def test_what_is_like_nothing_gets_no_proposal(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text('o = "ro"\n')
    assert idcfs("size").stderr == f"idcfs: {settings}: no option is called 'o'\n"


def test_a_mount_point_or_a_name_is_asked_for(idcfs: Idcfs) -> None:
    for command in ("mount", "umount", "refresh"):
        done = idcfs(command)
        assert done.returncode == 2
        assert f"{command} [OPTIONS] [MOUNTPOINT]" in done.stderr
        assert "Missing argument 'MOUNTPOINT'. Give its path, or --name NAME" in done.stderr


def test_a_variable_that_sets_nothing_is_pointed_out(idcfs: Idcfs) -> None:
    done = idcfs("config", "show", IDCFS_CHACHE_DIR="/x")
    assert done.returncode == 0
    assert "no variable is called 'IDCFS_CHACHE_DIR'; did you mean 'IDCFS_CACHE_DIR'" in done.stderr


def test_the_system_s_file_holds_for_everyone_and_the_user_s_decides(
    idcfs: Idcfs, settings: Path
) -> None:
    site = settings.parents[1] / "site" / "idcfs" / "config.toml"
    site.parent.mkdir(parents=True)
    site.write_text('source = "gcs"\ncache-size = "1G"\n')
    settings.write_text('cache-size = "2G"\n')
    mount = shown(idcfs, "mount")["commands"]["mount"]
    assert mount["source"] == {"value": "gcs", "from": "file", "where": str(site)}
    assert mount["cache-size"] == {"value": "2G", "from": "file", "where": str(settings)}


def test_a_name_brings_the_selection_and_flags_still_win(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text('[mounts.lung]\ncollection-id = "rider_pilot"\n')
    rider = idcfs("prefetch", "--dry-run", "--cache-size=none", "--name=lung")
    other = idcfs(
        "prefetch", "--dry-run", "--cache-size=none", "--name=lung", "--collection-id=lctsc"
    )
    assert rider.stdout.split()[:2] != other.stdout.split()[:2]
    direct = idcfs("prefetch", "--dry-run", "--collection-id=rider_pilot", "--cache-size=none")
    assert rider.stdout.split()[:6] == direct.stdout.split()[:6] != []


def test_a_name_brings_the_mount_point(idcfs: Idcfs, settings: Path, tmp_path: Path) -> None:
    settings.write_text(f'[mounts.lung]\nmountpoint = "{tmp_path}/nowhere"\n')
    assert f"the mount point {tmp_path}/nowhere does not" in idcfs("mount", "--name=lung").stderr
    assert f"nothing is mounted at {tmp_path}/nowhere" in idcfs("umount", "--name", "lung").stderr
    elsewhere = idcfs("mount", "--name=lung", str(tmp_path / "elsewhere"))
    assert "elsewhere does not exist" in elsewhere.stderr


@pytest.mark.parametrize("command", ["mount", "umount", "prefetch"])
def test_a_name_that_nothing_describes_is_refused(
    idcfs: Idcfs, settings: Path, command: str
) -> None:
    settings.write_text("[mounts.lung]\n")
    done = idcfs(command, "--name", "lunk")
    assert done.returncode == 2
    assert done.stderr == f"idcfs: {settings}: no mount is called 'lunk'; did you mean 'lung'?\n"


def test_a_mount_without_a_mount_point_asks_for_one(idcfs: Idcfs, settings: Path) -> None:
    settings.write_text("[mounts.lung]\n")
    done = idcfs("mount", "--name", "lung")
    assert done.returncode == 2
    assert "Missing argument 'MOUNTPOINT'" in done.stderr
