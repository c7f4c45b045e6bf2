"""What doctor finds wrong of the machine, the cache and the store, and what it says mends it."""

from __future__ import annotations

import errno
import os
import shutil
import ssl
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trustme

from idcfs.cache import DiskCache
from idcfs.cache.scratch import Scratch
from idcfs.mount import machine
from idcfs.mount.checkup import examine
from idcfs.mount.machine import check_allow_other, check_device, check_fusermount
from tests.support.scripted import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.mount.machine import Finding

    Examined = Callable[..., dict[str, Finding]]

NOBODY_LISTENS = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOENT, "sudo modprobe fuse"),
        (errno.EACCES, "sudo chmod 0666 /dev/fuse"),
        (errno.EPERM, "--device /dev/fuse --cap-add SYS_ADMIN"),
        (errno.ENODEV, "sudo modprobe fuse"),
    ],
)
def test_a_device_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    opened = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == Path("/dev/fuse"):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    found = check_device()
    assert (found.ok, found.needed) == (False, True)
    assert remedy in found.remedy


def test_a_fusermount3_that_does_not_run_as_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_fusermount().remedy == "sudo apt install fuse3"
    program = tmp_path / "fusermount3"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert check_fusermount().remedy == f"sudo chown root {program} && sudo chmod u+s {program}"
    program.chmod(0o755 | stat.S_ISUID)
    assert check_fusermount().ok == (program.stat().st_uid == 0)


@pytest.mark.parametrize(
    ("text", "ok"),
    [("", False), ("#user_allow_other", False), ("user_allow_other # for root", True)],
)
def test_allow_other_must_be_permitted_to_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, ok: bool
) -> None:
    (tmp_path / "fuse.conf").write_text(f"mount_max = 10\n{text}\n")
    monkeypatch.setattr(machine, "_FUSE_CONF", tmp_path / "fuse.conf")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = check_allow_other()
    assert found.ok == ok
    assert ok or found.remedy.startswith("echo user_allow_other | sudo tee -a ")


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Finding]]:
    """Examine with these arguments and return the findings by subject."""
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)

    def run(
        endpoint_url: str = NOBODY_LISTENS,
        cache_dir: Path = tmp_path / "cache",
        index_path: Path | None = None,
    ) -> dict[str, Finding]:
        found = examine(
            index_path=index_path, endpoint_url=endpoint_url, source="aws", cache_dir=cache_dir
        )
        return {each.subject: each for each in found}

    return run


def test_every_finding_that_is_not_fine_says_what_mends_it(examined: Examined) -> None:
    for found in examined(index_path=Path("/dev/null")).values():
        assert found.ok or found.remedy, found


def test_a_disk_that_is_full(
    examined: Examined, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert examined()["cache"].ok
    full = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    found = examined()["cache"]
    assert not found.ok
    assert found.detail.endswith("0.1 GB are free, less than the 1 GB that it should have")
    assert found.remedy.startswith("name another directory")
    DiskCache(tmp_path / "cache").close()
    found = examined()["cache"]
    assert found.remedy.startswith(f"idcfs cache clear --cache-dir {tmp_path}/cache, or ")


def test_a_disk_that_takes_nothing_is_full_and_not_refused(
    examined: Examined, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def take_nothing(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    DiskCache(tmp_path / "cache").close()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    monkeypatch.setattr(tempfile, "TemporaryFile", take_nothing)
    monkeypatch.setattr(Scratch, "prepare", take_nothing)
    found = examined()["cache"]
    assert (found.ok, found.remedy.startswith("idcfs cache clear")) == (False, True)


def test_a_directory_that_a_mount_refuses(examined: Examined, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    found = examined(cache_dir=tmp_path / "mine")["cache"]
    assert (found.ok, found.needed) == (False, True)
    assert "holds files that are not of idcfs, such as 'thesis.txt'" in found.detail


def test_an_index_that_is_none(examined: Examined) -> None:
    found = examined(index_path=Path("/dev/null"))["index"]
    assert not found.ok
    assert found.remedy.startswith("name another file with --index")


def test_a_store_that_is_blocked(examined: Examined) -> None:
    with ScriptedServer(lambda request, _: request.send(403)) as server:
        found = examined(server.url)["object store"]
    assert not found.ok
    assert found.remedy.endswith("idcfs manifest --script run.sh")


def test_a_store_that_cannot_be_reached(examined: Examined) -> None:
    found = examined()["object store"]
    assert not found.ok
    assert f"`curl -I {NOBODY_LISTENS}`" in found.remedy
    assert found.remedy.endswith("export HTTP_PROXY=http://HOST:PORT")


def test_a_proxy_that_does_not_answer(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    found = examined("https://store.invalid")["object store"]
    assert not found.ok
    assert found.remedy.startswith("HTTPS_PROXY names the proxy 127.0.0.1:9: ")
    assert "secret" not in found.remedy + found.detail


def test_a_certificate_that_is_not_trusted(examined: Examined) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with ScriptedServer(lambda request, _: request.send(200), tls=context) as server:
        found = examined(server.url)["object store"]
    assert not found.ok
    assert found.remedy.startswith("export AWS_CA_BUNDLE=")
