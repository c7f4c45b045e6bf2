"""What mount(8) and mount.fuse say, and what idcfs makes of it."""

from __future__ import annotations

import tomllib
from importlib import import_module

import pytest

from idcfs.cli.mount_helper import from_mount_fuse, translate
from idcfs.errors import UsageError
from tests.support.mounting import REPOSITORY

COMMANDS = ["mount", "demo"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("lung /srv/lung", "mount --name=lung -o fsname=lung /srv/lung"),
        ("idcfs#lung /srv/lung -n", "mount --name=lung -o fsname=idcfs#lung /srv/lung"),
        ("idc /idc -o rw,noauto", "mount -o rw,noauto,fsname=idc /idc"),
        ("lung /l -o ro,fsname=x -t idcfs", "mount --name=lung -o ro,fsname=x /l"),
        (
            "lung /l -s -v -o uid=7,cache_dir=/c,verify-reads,_netdev",
            "mount --name=lung --cache-dir=/c --verify-reads -o uid=7,_netdev,fsname=lung /l",
        ),
        (
            "-o allow_other -o gid=8 lung /l",
            "mount --name=lung -o allow_other,gid=8,fsname=lung /l",
        ),
        ("lung /l -o endpoint_url=http://h:1/?a=b", None),
    ],
)
def test_a_line_of_the_table_becomes_a_mount(said: str, expected: str | None) -> None:
    arguments = translate(said.split())
    if expected is None:
        assert arguments is not None
        assert "--endpoint-url=http://h:1/?a=b" in arguments
    else:
        assert arguments == expected.split()


def test_a_try_out_does_nothing() -> None:
    assert translate(["lung", "/srv/lung", "-f"]) is None


@pytest.mark.parametrize("said", ["", "lung", "a b c", "lung /l -X", "lung /l -N /proc/1/ns/mnt"])
def test_other_calls_are_refused(said: str) -> None:
    with pytest.raises(UsageError, match=r"mount\.idcfs"):
        translate(said.split())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("lung /srv/lung -o rw,dev,suid", "mount --name=lung -o rw,dev,suid,fsname=lung /srv/lung"),
        ("/srv/lung -o rw", "mount -o rw /srv/lung"),
        ("mount /srv/lung -o rw", None),
        ("demo /srv/lung -o rw", None),
        ("mount --name=lung -o rw", None),
        ("lung srv -o rw", None),
        ("size lidc_idri", None),
        ("", None),
    ],
)
def test_a_call_of_mount_fuse_is_told_from_a_command(said: str, expected: str | None) -> None:
    arguments = from_mount_fuse(said.split(), COMMANDS)
    assert arguments == (expected.split() if expected else None)


def test_the_package_installs_the_helper() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["mount.idcfs"].split(":")
    assert callable(getattr(import_module(module), function))
