"""What doctor says of privileges, the disk, the clock and the index."""

from __future__ import annotations

import email.utils
import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from idcfs.catalog.index import Index
from idcfs.mount import surroundings
from idcfs.mount.surroundings import check_age, check_clock, check_privileges, check_speed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FULL, NONE = "000001ffffffffff", "0000000000000000"


@pytest.mark.parametrize(
    ("uid", "effective", "bounding", "no_new", "expected"),
    [
        (0, FULL, FULL, 0, ""),
        (0, "00000000a80425fb", "00000000a80425fb", 0, "--cap-add SYS_ADMIN"),  # docker's own
        (1000, NONE, FULL, 0, ""),
        (1000, NONE, "00000000a80425fb", 0, "--cap-add SYS_ADMIN"),
        (1000, NONE, FULL, 1, "NoNewPrivileges="),
    ],
)
def test_privileges(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    effective: str,
    bounding: str,
    no_new: int,
    expected: str,
) -> None:
    status = tmp_path / "status"
    status.write_text(
        f"Name:\tx\nCapEff:\t{effective}\nCapBnd:\t{bounding}\nNoNewPrivs:\t{no_new}\n"
    )
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    found = check_privileges(status)
    assert found.ok == (not expected)
    assert expected in found.remedy


def test_speed_is_measured_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_speed(tmp_path).detail.endswith(" MB/s")
    ticks = iter([0.0, 1.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    slow = check_speed(tmp_path)
    assert (slow.ok, slow.needed) == (False, False)
    assert slow.detail == f"{tmp_path} takes 8 MB/s"
    assert not list(tmp_path.iterdir())


@contextmanager
def server(date: str | None, status: int = 200) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(status)
            if date is not None:
                self.send_header("Date", date)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("ahead_s", "ok", "said"),
    [
        (0, True, "it agrees"),
        (200, True, "it agrees"),
        (3600, False, "60 minutes behind"),
        (-7200, False, "120 minutes ahead of"),
    ],
)
@pytest.mark.parametrize("status", [200, 403])
def test_the_clock_is_held_against_the_server_s(
    ahead_s: int, ok: bool, said: str, status: int
) -> None:
    with server(email.utils.formatdate(time.time() + ahead_s, usegmt=True), status) as url:
        found = check_clock(url)
    assert found is not None
    assert found.ok == ok
    assert said in found.detail


@pytest.mark.parametrize("date", [None, "soon"])
def test_a_server_without_the_time_says_nothing_of_the_clock(date: str | None) -> None:
    with server(date) as url:
        assert check_clock(url) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x03\x00\x02\x02\x0a",  # TLS: an alert, since the message is unexpected
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1000,
        b"",
    ],
)
def test_a_server_that_does_not_speak_http_says_nothing_of_the_clock(answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        assert check_clock(f"https://127.0.0.1:{listening.getsockname()[1]}") is None
        thread.join()


def test_no_server_says_nothing_of_the_clock() -> None:
    assert check_clock("http://127.0.0.1:9", timeout_s=1) is None


def test_an_old_index_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    released = 1_700_000_000
    monkeypatch.setattr(surroundings, "release_time_ns", lambda *_: released * 10**9)
    for days, ok in ((364, True), (366, False)):
        monkeypatch.setattr(time, "time", lambda days=days: released + days * 86_400)
        found = check_age(Index.open())
        assert found.ok == ok
        assert "2023-11-14" in found.detail
        assert not found.needed
