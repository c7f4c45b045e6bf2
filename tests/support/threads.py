"""A machine on which no more threads of a kind are to be had."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_threads(named: str) -> Iterator[list[str]]:
    """Have no thread start whose name begins so, as Python tells of it; give the names of these."""
    refused: list[str] = []
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name.startswith(named):
            refused.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    with patch.object(threading.Thread, "start", refuse):
        yield refused
