"""A multiplexer of a store in memory, which goes on when a test lets it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.store.protocol import AskOtherwiseError

if TYPE_CHECKING:
    from idcfs.store.protocol import Drop, ExtentRequest
    from tests.support.stores import MemoryStore


@dataclass(eq=False)
class _Exchange:
    request: ExtentRequest
    body: bytes
    has_half: bool = False


class MemoryMultiplexer:
    """Brings the objects of `store`, in two halves. A context manager.

    While `held` nothing comes beyond the first half.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_idle = True
        """Whether there is a connection that nobody uses."""
        self.breaks: set[str] = set()
        """Keys of objects whose second half does not come."""
        self.held = False
        self.begun: list[str] = []
        self.dropped: list[str] = []
        self.most_under_way = 0
        self.expired = 0
        """How often it was asked to look for what does not come."""
        self.closed = False
        self._under_way: list[_Exchange] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __enter__(self) -> MemoryMultiplexer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._wake)

    def fileno(self) -> int:
        return self._wake

    def can_begin(self, bucket: str) -> bool:
        return self.is_idle

    def begin(self, request: ExtentRequest) -> Drop | None:
        if not self.is_idle:
            return None
        key, extent = request.key, request.extent
        self.begun.append(key)
        if request.offered is not None and key in self._store.checksums:
            request.offered((self._store.checksums[key],))
        body = self._store.alter(self._store.objects[key][extent.offset : extent.end])
        exchange = _Exchange(request, body)
        self._under_way.append(exchange)
        self.most_under_way = max(self.most_under_way, len(self._under_way))
        os.eventfd_write(self._wake, 1)

        def drop() -> None:
            self._under_way.remove(exchange)
            self.dropped.append(key)

        return drop

    def go_on(self) -> None:
        """Let come what was held."""
        self.held = False
        os.eventfd_write(self._wake, 1)

    async def has_halves(self, count: int) -> None:
        """Return when the first halves of so many have come."""
        while sum(exchange.has_half for exchange in self._under_way) < count:
            await trio.lowlevel.checkpoint()

    def turn(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        for exchange in list(self._under_way):
            half = len(exchange.body) // 2
            error: Exception | None = None
            try:
                if not exchange.has_half:
                    exchange.has_half = True
                    exchange.request.sink(memoryview(exchange.body)[:half])
                if exchange.request.key in self.breaks:
                    raise AskOtherwiseError("it broke off")
                if self.held:
                    continue
                exchange.request.sink(memoryview(exchange.body)[half:])
            except Exception as exc:
                error = exc
            self._under_way.remove(exchange)
            exchange.request.ended(error)

    def expire(self) -> bool:
        self.expired += 1
        return bool(self._under_way)

    def close(self) -> None:
        self.closed = True
