"""The unit files: that systemd understands them, how closed they are, where they go."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.cli.systemd import systemd
from idcfs.errors import IdcfsError
from tests.support.mounting import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]

UNITS = ["idcfs-prefetch@.service", "idcfs-prefetch@.timer", "idcfs@.service"]
PROGRAM = Path(sys.executable).with_name("idcfs")


@pytest.fixture
def installed(idcfs: Idcfs, tmp_path: Path) -> Path:
    """The units as they are put in place, with those of one mount beside them.

    systemd-analyze looks at files and starts nothing; a template is told apart from an
    instance by its name alone.
    """
    for kind, flags in (("user", ["--user"]), ("system", [])):
        done = idcfs("systemd", "install", *flags, "--directory", str(tmp_path / kind))
        assert done.returncode == 0, done.stderr
        for unit in UNITS:
            of_one = tmp_path / kind / unit.replace("@", "@lung")
            of_one.write_text((tmp_path / kind / unit).read_text())
    for example in (REPOSITORY / "systemd" / "examples").iterdir():
        (tmp_path / "system" / example.name).write_text(example.read_text())
    return tmp_path


def analyze(*arguments: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("kind", ["user", "system"])
def test_systemd_finds_nothing_wrong(installed: Path, tmp_path: Path, kind: str) -> None:
    units = [str(path) for path in (installed / kind).iterdir() if path.is_file()]
    assert len(units) == 2 * len(UNITS) + (2 if kind == "system" else 0)
    done = analyze("verify", f"--{kind}", "--man=no", *units, runtime=tmp_path)
    about_ours = [line for line in done.stderr.splitlines() if "idcfs" in line or "lung" in line]
    assert about_ours == []


def test_verify_would_tell(installed: Path, tmp_path: Path) -> None:
    unit = installed / "system" / "idcfs@lung.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=5min", "WatchdogSecs=5min"))
    done = analyze("verify", "--man=no", str(unit), runtime=tmp_path)
    assert "WatchdogSecs" in done.stderr


# Of 10, lower is better; a mount's unit says itself why it cannot be lower.
@pytest.mark.parametrize(
    ("unit", "bound"),
    [
        ("system/idcfs@lung.service", 7.0),
        ("system/idcfs-prefetch@lung.service", 2.0),
        ("user/idcfs-prefetch@lung.service", 6.5),
    ],
)
def test_units_are_as_closed_as_they_can_be(
    installed: Path, tmp_path: Path, unit: str, bound: float
) -> None:
    done = analyze(
        "security", "--offline=true", "--no-pager", str(installed / unit), runtime=tmp_path
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= bound


@pytest.mark.parametrize("kind", ["user", "system"])
def test_a_mount_is_visible_to_others(kind: str) -> None:
    """Whatever gives the daemon a mount namespace of its own would hide what it mounts."""
    text = (REPOSITORY / "systemd" / kind / "idcfs@.service").read_text()
    settings = {line.split("=")[0] for line in text.splitlines() if "=" in line and line[0] != "#"}
    hiding = re.compile(
        "Private(?!Network)|Protect(?!Hostname|Clock)|ReadWrite|ReadOnly|Inaccessible|Bind|Temporary"
        "|DynamicUser|Root|NoNewPrivileges|SystemCall|Restrict(?!art)|LockPersonality"
    )
    assert {name for name in settings if hiding.match(name)} <= {"RestartPreventExitStatus"}


def test_units_run_this_installation(installed: Path) -> None:
    for path in installed.glob("*/idcfs*.service"):
        commands = re.findall(r"^Exec\w+=(\S+)", path.read_text(), re.MULTILINE)
        assert set(commands) == {str(PROGRAM)}


def test_user_units_go_where_the_user_s_manager_looks(idcfs: Idcfs, settings: Path) -> None:
    done = idcfs("systemd", "install", "--user")
    directory = settings.parents[1] / "systemd" / "user"
    assert sorted(path.name for path in directory.iterdir()) == UNITS
    assert "systemctl --user enable --now idcfs@lung.service" in done.stdout


def test_the_system_s_user_comes_with_them(installed: Path) -> None:
    assert "u idcfs - " in (installed / "system" / "sysusers.d" / "idcfs.conf").read_text()
    assert not (installed / "user" / "sysusers.d").exists()


def test_a_directory_that_cannot_be_written_is_told_in_one_line(
    idcfs: Idcfs, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = idcfs("systemd", "install", "--user", "--directory", str(tmp_path / "file" / "below"))
    assert done.returncode == 1
    assert done.stderr.startswith("idcfs: ")
    assert done.stderr.count("\n") == 1


def test_whoever_may_not_write_is_told_another_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    for flags, advised in (["--user"], False), ([], True):
        words = ["install", *flags, "--directory", str(tmp_path / "units")]
        with pytest.raises(IdcfsError, match="cannot be written by you: ") as caught:
            systemd.main(words, standalone_mode=False)
        assert ("--user" in str(caught.value)) == advised


def test_the_wheel_takes_the_units_along() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["systemd"] == "idcfs/systemd"
