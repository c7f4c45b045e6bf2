"""Ends a prefetch in order when SIGINT or SIGTERM comes, whatever it is doing."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idcfs.prefetch.outcome import Outcome

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_GRACE_S = 2.0
"""From a second signal to the end, whatever holds it up. `make` and `timeout` send two at once."""

_INTERRUPTED = 130


class Stoppable(Protocol):
    """Something under way on the trio thread."""

    def stop(self) -> None:
        """End early, in order."""


@contextmanager
def noted_signals(outcome: Outcome, *, ends_at_second: bool) -> Iterator[None]:
    """Only note a signal, where no trio runs that `stop_at_signal` could be part of.

    Between two batches it would else kill the process, and the report would lack its end.
    """
    if not _signals_are_ours():
        yield
        return

    def note(*_: object) -> None:
        _note(outcome, ends_at_second=ends_at_second)

    former = [(number, signal.signal(number, note)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)


async def stop_at_signal(
    stopped: Sequence[Stoppable],
    outcome: Outcome,
    ends_at_second: bool,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Stop all of them at a signal, or at once if one was noted. Runs until cancelled.

    With `ends_at_second`, another one ends the process in any case.
    """
    if not _signals_are_ours():
        task_status.started()
        return
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        if outcome.interrupted:
            _stop(stopped)
        async for _ in signals:
            _note(outcome, ends_at_second=ends_at_second)
            _stop(stopped)


def _stop(stopped: Sequence[Stoppable]) -> None:
    for each in stopped:
        each.stop()


def _note(outcome: Outcome, *, ends_at_second: bool) -> None:
    if outcome.interrupted and ends_at_second:
        ending = threading.Timer(_GRACE_S, _end_at_once)
        ending.daemon = True
        ending.start()
    outcome.interrupted = True


def _end_at_once() -> None:
    """End like one that is killed: the next run takes over what is left."""
    os.write(2, b"idcfs: ended at the second signal; the same command goes on from here\n")
    os._exit(_INTERRUPTED)


def _signals_are_ours() -> bool:
    """Tell whether this is the main thread: signals belong to it, and elsewhere to somebody."""
    return threading.current_thread() is threading.main_thread()
