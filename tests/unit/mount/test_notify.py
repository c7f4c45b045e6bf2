"""What a service manager is told, and when its watchdog goes hungry."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.mount.notify import ServiceManager
from tests.support.mounting import DEADLINE_S, wait_until
from tests.support.notices import NoticeSocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def notices(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NoticeSocket]:
    name = str(tmp_path / "socket")
    with NoticeSocket(f"@{name}" if request.param == "abstract" else name) as listening:
        yield listening


def test_ready_status_and_stopping(notices: NoticeSocket) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": notices.name})
    manager.ready("IDC v25\nat /idc")
    manager.status("busy")
    manager.stopping()
    assert notices.next() == {"READY": "1", "STATUS": "IDC v25 at /idc"}
    assert notices.next() == {"STATUS": "busy"}
    assert notices.next()["STOPPING"] == "1"


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_if_it_is_meant_for_this_process(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": "/run/notify", **environment})
    assert manager == ServiceManager("/run/notify", watchdog_s)


@pytest.mark.parametrize("name", ["", "notify", "vsock:2:1"])
def test_without_a_socket_nobody_is_told(name: str) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1"})
    assert manager == ServiceManager()
    manager.ready("well")


def test_a_manager_that_is_gone_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager(str(tmp_path / "gone")).ready("well")
    assert "cannot tell the service manager" in caplog.text


def watch(
    manager: ServiceManager,
    path: Path,
    body: Callable[[trio.testing.MockClock], Awaitable[None]],
) -> None:
    """Run `body` beside the feeding of the watchdog, on a clock that only the body moves."""
    clock = trio.testing.MockClock()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.feed_watchdog, path)
            await body(clock)
            nursery.cancel_scope.cancel()

    trio.run(run, clock=clock)


def test_it_is_fed_thrice_in_its_time_while_the_mount_answers(tmp_path: Path) -> None:
    with NoticeSocket(str(tmp_path / "socket")) as notices:

        async def expect_feeds(clock: trio.testing.MockClock) -> None:
            for _ in range(4):
                assert await trio.to_thread.run_sync(notices.next) == {"WATCHDOG": "1"}
                assert notices.is_silent()
                clock.jump(1.0)

        watch(ServiceManager(notices.name, 3.0), tmp_path, expect_feeds)


def test_it_starves_while_the_mount_answers_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hang(path: Path) -> None:
        asked.set()
        answer.wait(DEADLINE_S)

    monkeypatch.setattr(os, "statvfs", hang)
    with NoticeSocket(str(tmp_path / "socket")) as notices:

        async def expect_none(clock: trio.testing.MockClock) -> None:
            assert await trio.to_thread.run_sync(asked.wait, DEADLINE_S)
            clock.jump(20.0)
            await trio.testing.wait_all_tasks_blocked()
            assert notices.is_silent()

        watch(ServiceManager(notices.name, 3.0), tmp_path, expect_none)
    answer.set()


def test_it_starves_while_the_mount_answers_with_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = "the mount does not answer: Transport endpoint"

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(os, "statvfs", refuse)
    with NoticeSocket(str(tmp_path / "socket")) as notices:

        async def expect_none(clock: trio.testing.MockClock) -> None:
            for refused in range(3):
                await trio.to_thread.run_sync(
                    wait_until,
                    lambda refused=refused: caplog.text.count(told) > refused,
                    "it is asked again",
                )
                clock.jump(1.0)
            assert notices.is_silent()

        watch(ServiceManager(notices.name, 3.0), tmp_path, expect_none)
