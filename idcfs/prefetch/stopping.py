"""Ends a prefetch in order when SIGINT or SIGTERM comes, whatever it is doing."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idcfs.prefetch.outcome import Outcome

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """Something under way on the trio thread."""

    def stop(self) -> None:
        """End early, in order."""


@contextmanager
def noted_signals(outcome: Outcome) -> Iterator[None]:
    """Only note a signal, where no trio runs that `stop_at_signal` could be part of.

    Between two batches it would else kill the process, and the report would lack its end.
    """
    if not _signals_are_ours():
        yield
        return

    def note(*_: object) -> None:
        outcome.interrupted = True

    former = [(number, signal.signal(number, note)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)


async def stop_at_signal(
    stopped: Sequence[Stoppable], outcome: Outcome, *, task_status: trio.TaskStatus[None]
) -> None:
    """Stop all of them at a signal, or at once if one was noted. Runs until cancelled."""
    if not _signals_are_ours():
        task_status.started()
        return
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        if outcome.interrupted:
            _stop(stopped)
        async for _ in signals:
            outcome.interrupted = True
            _stop(stopped)


def _stop(stopped: Sequence[Stoppable]) -> None:
    for each in stopped:
        each.stop()


def _signals_are_ours() -> bool:
    """Tell whether this is the main thread: signals belong to it, and elsewhere to somebody."""
    return threading.current_thread() is threading.main_thread()
