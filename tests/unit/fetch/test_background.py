"""What is fetched ahead of readers fails for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.errors import StoreUnavailableError
from idcfs.fetch.background import Background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Jobs:
    """A source of jobs that count themselves and then raise."""

    def __init__(self, error: Exception | None, count: int) -> None:
        self.error = error
        self.left = count
        self.done = 0

    def take(self) -> Callable[[], Awaitable[None]] | None:
        if not self.left:
            return None
        self.left -= 1
        return self._work

    async def _work(self) -> None:
        await trio.lowlevel.checkpoint()
        self.done += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), TypeError("a bug")])
def test_a_job_that_fails_ends_its_source_and_nothing_else(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing, fine = Jobs(error, 5), Jobs(None, 5)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            background = Background(nursery, slots=1)
            background.wake(failing)
            background.wake(fine)

    trio.run(run)
    assert (failing.done, fine.done) == (1, 5)
    assert ("a bug in idcfs" in caplog.text) == isinstance(error, TypeError)
