"""When to try again, and how long to wait before it.

botocore's own retries are switched off in favour of this: they cannot resume a
body, and their quota is one bucket of tokens a client (500, at 14 a retry, with
one back for each success: botocore 1.44), so that an outage of a minute would
leave a mount of many days without retries for hours.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.errors import StoreError
    from idcfs.store.outage import Outage

_PROGRESS_BYTES = 1 << 20
"""An attempt that brought this much starts the count of failures and the clock anew: a
link that drops every few megabytes is slow, not dead. It also bounds the number of
attempts. Less does not count, or a server that sends a little and then stalls, again and
again, would keep a reader waiting for minutes."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to try, and how patiently.

    The defaults give up on a refused connection after about two seconds. An
    operation without progress ends within `patience_s`, one more pause and one more
    attempt: after about a minute where each attempt waits for one timeout of 20 s.
    """

    attempts: int = 5
    """Attempts in a row that may fail, the first one included."""
    first_pause_s: float = 0.2
    """The longest pause before the second attempt; each further one may be twice as long."""
    longest_pause_s: float = 5.0
    patience_s: float = 45.0
    """No new attempt once so long has passed without progress, which is a megabyte."""

    def pause_s(self, failures: int) -> float:
        """Return the upper bound of the pause after `failures` failures in a row (from 1)."""
        return min(self.first_pause_s * 2.0 ** (failures - 1), self.longest_pause_s)


DEFAULT_POLICY = RetryPolicy()


class Attempts:
    """The failures of one operation so far. Used by one thread."""

    def __init__(
        self,
        *,
        policy: RetryPolicy,
        sleep: Callable[[float], object],
        outage: Outage,
        pushed_back: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._sleep = sleep
        self._outage = outage
        self._pushed_back = pushed_back
        self._clock = clock
        self._failures = 0
        self._fresh_bytes = 0
        self._progress_at = clock()

    def progressed(self, count: int) -> None:
        """Note that `count` more bytes have come."""
        self._fresh_bytes += count
        if self._fresh_bytes >= _PROGRESS_BYTES:
            self._progress_at = self._clock()

    def excuse(self, busy_s: float) -> None:
        """Note that for so long the reader, who may hold to a rate, did not take what came."""
        self._progress_at += busy_s

    def wait_or_raise(self, error: StoreError) -> None:
        """Wait before the next attempt, or raise `error` if there is to be none.

        There is none while the store is known to be out of reach, which giving up may begin.
        A store that asks for a longer pause gets it, as far as the policy's longest.
        """
        self._failures = 1 if self._fresh_bytes >= _PROGRESS_BYTES else self._failures + 1
        self._fresh_bytes = 0
        idle_s = self._clock() - self._progress_at
        if isinstance(error, StoreUnavailableError) and error.asks_for_less:
            self._pushed_back()
        spent = self._failures >= self._policy.attempts or idle_s >= self._policy.patience_s
        if spent or self._outage.is_on:
            if isinstance(error, StoreUnavailableError):
                self._outage.note(error)
            raise error
        # Half of the pause is random, so that the threads which failed together
        # do not come back together.
        pause_s = self._policy.pause_s(self._failures) * random.uniform(0.5, 1)
        asked_s = error.retry_after_s if isinstance(error, StoreUnavailableError) else None
        self._sleep(max(pause_s, min(asked_s or 0.0, self._policy.longest_pause_s)))
