"""What to do while the store is out of reach: wait, say so, and try again."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from idcfs.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.prefetch.metered import MeteredStore

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PatiencePolicy:
    """How long to put up with a store that cannot be reached, beyond its own retries."""

    tries: int = 6
    """For a file or listing that the store answers for, or cuts off: two minutes of pauses.
    Each has the store's own five attempts in it."""
    first_pause_s: float = 5.0
    """The longest pause before the second try; each further one may be twice as long."""
    longest_pause_s: float = 60.0
    patience_s: float = 1800.0
    """So long without a byte end the waiting: a router's night, not a weekend."""
    quiet_s: float = 60.0
    """So long without a byte are told of: three timeouts of the store's."""


NO_PATIENCE = PatiencePolicy(tries=1, patience_s=0.0)
"""For what is no network: what fails there fails again."""


class Patience:
    """Tries again what the store could not give for now. On the trio thread.

    A store that has not given anything yet is not waited for: it may be misspelt.
    """

    def __init__(
        self,
        meter: MeteredStore,
        policy: PatiencePolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is the one by which the meter says when something came."""
        self._meter = meter
        self._policy = policy
        self._clock = clock
        self._reason: str | None = None
        self._waiting = 0
        self._silent_since_s = clock()
        self._told_of_s: float | None = None
        """The beginning of the silence that was told of."""

    async def insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what an attempt returns; raise what it raises, in the end."""
        tries = pauses = 0
        while True:
            began_s = self._clock()
            try:
                return await attempt()
            except StoreUnavailableError as exc:
                # While nobody can be connected to, it is not this file's fault.
                tries += not (exc.no_connection and self._is_silent_since(began_s))
                if tries >= self._policy.tries or not self._waits:
                    raise
                self._reason = str(exc)
                logger.info("%s; trying again later", exc)
            pauses += 1
            await self._pause(pauses)

    @property
    def _waits(self) -> bool:
        moved_s = self._meter.moved_at_s
        return moved_s is not None and self._clock() - moved_s < self._policy.patience_s

    def _is_silent_since(self, moment_s: float) -> bool:
        moved_s = self._meter.moved_at_s
        return moved_s is None or moved_s < moment_s

    async def _pause(self, number: int) -> None:
        policy = self._policy
        longest_s = min(policy.first_pause_s * 2.0 ** min(number - 1, 10), policy.longest_pause_s)
        self._waiting += 1
        try:
            await trio.sleep(longest_s * random.uniform(0.5, 1))
        finally:
            self._waiting -= 1

    def watch(self) -> None:
        """Say so, in one line, if nothing has come for long though it was asked for.

        To be called all the time.
        """
        now_s = self._clock()
        if not (self._waiting or self._meter.requests_under_way):
            self._silent_since_s = now_s
        since_s = max(self._silent_since_s, self._meter.moved_at_s or 0.0)
        if now_s - since_s < self._policy.quiet_s or since_s == self._told_of_s:
            return
        self._told_of_s = since_s
        logger.warning(
            "nothing has come from the store for %.0f s; trying on%s",
            now_s - since_s,
            f" ({self._reason})" if self._waiting and self._reason else "",
        )
