"""What a service manager is told, and when its watchdog goes hungry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from idcfs.mount.notify import ServiceManager
from idcfs.mount.question import Answer, Told
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
    ask: Callable[[float], Awaitable[Told]],
    body: Callable[[trio.testing.MockClock], Awaitable[None]],
) -> None:
    """Run `body` beside the feeding of the watchdog, on a clock that only the body moves."""
    clock = trio.testing.MockClock()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.feed_watchdog, ask)
            await body(clock)
            nursery.cancel_scope.cancel()

    trio.run(run, clock=clock)


@pytest.mark.parametrize("answer", [Answer.GIVEN, Answer.UNKNOWN])
def test_it_is_fed_thrice_in_its_time_unless_the_mount_fails(
    tmp_path: Path, answer: Answer
) -> None:
    patiences = []

    async def ask(patience_s: float) -> Told:
        patiences.append(patience_s)
        return Told(answer, "for a reason")

    with NoticeSocket(str(tmp_path / "socket")) as notices:

        async def expect_feeds(clock: trio.testing.MockClock) -> None:
            for _ in range(4):
                assert await trio.to_thread.run_sync(notices.next) == {"WATCHDOG": "1"}
                assert notices.is_silent()
                clock.jump(1.0)

        watch(ServiceManager(notices.name, 3.0), ask, expect_feeds)
    assert set(patiences) == {3.0}


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.MISSING])
def test_it_starves_while_the_mount_answers_nobody(
    tmp_path: Path, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    told = "the mount does not answer: Transport endpoint"

    async def ask(patience_s: float) -> Told:
        return Told(answer, "Transport endpoint is not connected")

    with NoticeSocket(str(tmp_path / "socket")) as notices:

        async def expect_none(clock: trio.testing.MockClock) -> None:
            for asked in range(1, 4):
                await trio.testing.wait_all_tasks_blocked()
                assert caplog.text.count(told) == asked
                clock.jump(1.0)
            assert notices.is_silent()

        watch(ServiceManager(notices.name, 3.0), ask, expect_none)
