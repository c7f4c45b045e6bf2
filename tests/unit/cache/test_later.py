"""Jobs that are done in the background, later."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from idcfs.cache.later import Later
from idcfs.errors import CacheError
from tests.support.mounting import wait_until

if TYPE_CHECKING:
    import pytest


def test_who_asks_while_a_job_is_under_way_has_it_done_once_more() -> None:
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    done: list[int] = []

    def job() -> None:
        begun.release()
        assert go_on.acquire(timeout=20)
        done.append(1)

    later = Later(job, 0.0)
    later.ask()
    assert begun.acquire(timeout=20)
    later.ask()
    later.ask()
    go_on.release()
    assert begun.acquire(timeout=20)
    go_on.release()
    later.close()
    assert len(done) == 2


def test_a_job_that_fails_is_tried_again_and_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        if len(tries) < 4:
            raise CacheError("the disk is full")

    later = Later(job, 0.0)
    later.ask()
    wait_until(lambda: len(tries) == 4, "the job works")
    later.close()
    assert len(tries) == 4
    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
    assert [each.getMessage() for each in warnings] == ["the disk is full"]
    caplog.clear()


def test_without_a_delay_or_once_closed_nothing_is_done() -> None:
    done: list[int] = []
    for later in (Later(lambda: done.append(1), None), Later(lambda: done.append(1), 3600.0)):
        later.ask()
        later.close()
        later.ask()
    assert not done
