"""What is known of a store that cannot be reached, so that not every request finds out anew.

Each operation tries for some two seconds before it gives up on a refused connection, for 45
where nothing answers. Who walks through directories without a network would wait so long in
each of them.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)


class Outage:
    """The time in which no connection can be made; it may begin and end many times. Any thread.

    It begins with an operation that gave up for want of a connection, and ends with the first
    answer of the store, be it a refusal (403, 404, 412). One that says that the store is
    overloaded or out of order (408, 429, 500, 502, 503, 504) does not end it: a gateway says so
    of a store that it cannot reach, and what is overloaded must not be asked for everything at
    once. Meanwhile operations fail at once, but for one in `rest_s`, which tries a single time.
    With None, it never begins.
    """

    def __init__(
        self, rest_s: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._fault: str | None = None
        """Why there is no connection, as the newest error has it; None while there is no outage."""
        self._began_s = self._next_try_s = 0.0

    @property
    def is_on(self) -> bool:
        """Tell whether the store is known to be out of reach."""
        return self._fault is not None

    @property
    def lasts_s(self) -> float | None:
        """How long it has lasted by now; None if the store can be reached, as far as is known."""
        with self._lock:
            return None if self._fault is None else self._clock() - self._began_s

    @contextmanager
    def admit(self, action: str) -> Iterator[None]:
        """Make a request within the block, or raise StoreUnavailableError without.

        `action` opens the message: "cannot list s3://bucket/prefix".
        """
        if self._fault is not None:
            self._hold_up(action)
        try:
            yield
        except StoreUnavailableError:
            raise
        except StoreError:
            self.end()
            raise

    def _hold_up(self, action: str) -> None:
        """Raise the error of the outage, unless it is time to try again."""
        with self._lock:
            now_s = self._clock()
            if self._fault is None or self._rest_s is None:
                return
            if now_s >= self._next_try_s:
                self._next_try_s = now_s + self._rest_s
                return
            fault = self._fault
        error = StoreUnavailableError(f"{action}: {fault}")
        error.fault = fault
        error.no_connection = error.is_told = True
        raise error

    def note(self, error: StoreUnavailableError) -> None:
        """Note that an operation gave up. One that found no connection begins an outage."""
        if self._rest_s is None:
            return
        with self._lock:
            begins = self._fault is None
            if begins and not error.no_connection:
                return
            self._fault = error.fault or self._fault
            error.is_told = True
            if begins:
                self._began_s = self._clock()
                self._next_try_s = self._began_s + self._rest_s
        if begins:
            logger.warning(
                "%s; until the store is back, what is not in the cache fails at once", error
            )

    def end(self) -> None:
        """Note that the store has answered."""
        if not self.is_on:  # nearly always, and then nobody has to wait for the lock
            return
        with self._lock:
            fault, self._fault = self._fault, None
            lasted_s = self._clock() - self._began_s
        if fault is not None:
            logger.warning("the object store is back, after %.0f s", lasted_s)
