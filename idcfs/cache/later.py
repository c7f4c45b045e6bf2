"""Does in the background, some seconds later, what nobody is to wait for."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Later:
    """Calls `job` in a thread, `delay_s` after it is asked to: once for all who ask meanwhile.

    A job that raises is tried again until it does not; the first failure in a row is a warning
    in the log. Without `delay_s` there is no thread, and nothing is ever called. Thread-safe.
    """

    def __init__(self, job: Callable[[], object], delay_s: float | None) -> None:
        self._job = job
        self._due = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        if delay_s is not None:
            self._thread = threading.Thread(
                target=self._run, args=(delay_s,), name="idcfs-ledger", daemon=True
            )
            self._thread.start()

    def ask(self) -> None:
        """Have the job done. Never blocks; the job itself may ask for the next time."""
        if not self._due.is_set():
            self._due.set()

    def close(self) -> None:
        """Call nothing any more, once the job under way is done."""
        self._closing.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, delay_s: float) -> None:
        failing = False
        while True:
            self._due.wait()
            if self._closing.wait(delay_s):
                return
            self._due.clear()
            try:
                self._job()
                failing = False
            except Exception as exc:  # the thread must go on: the disk may come back
                log = logger.debug if failing else logger.warning
                log("%s", exc, exc_info=not isinstance(exc, CacheError))
                failing = True
                self._due.set()
