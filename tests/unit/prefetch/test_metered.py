"""What is counted of exchanges, however they end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from idcfs.prefetch.metered import MeteredStore
from idcfs.store.protocol import AskOtherwiseError, ExtentRequest
from tests.support.multiplexing import MemoryMultiplexer
from tests.support.stores import MemoryStore, make_content

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import ObjectRef
    from idcfs.store.protocol import Drop, Multiplexer

CONTENT = make_content(1000)


class Bench:
    """A metered store with a multiplexer, and what was told of exchanges."""

    def __init__(self, memory: MemoryStore, multiplexer: MemoryMultiplexer) -> None:
        self.memory, self.inner = memory, multiplexer
        memory.multiplexer = multiplexer
        self.store = MeteredStore(memory)
        found = self.store.find_multiplexer()
        assert found is not None
        self.multiplexer: Multiplexer = found
        self.ref: ObjectRef = memory.add_content(CONTENT)
        self.received = bytearray()
        self.ends: list[Exception | None] = []
        self.raises: Exception | None = None

    def sink(self, chunk: memoryview) -> None:
        if self.raises is not None:
            raise self.raises
        self.received += chunk

    def begin(self) -> Drop | None:
        ref = self.ref
        return self.multiplexer.begin(
            ExtentRequest(
                ref.bucket,
                ref.key,
                ref.whole,
                ref.instance.etag,
                sink=self.sink,
                ended=self.ends.append,
            )
        )

    @property
    def counted(self) -> tuple[int, int]:
        """Requests and bytes under way."""
        return self.store.requests_under_way, self.store.bytes_under_way


@pytest.fixture
def bench() -> Iterator[Bench]:
    memory = MemoryStore()
    with MemoryMultiplexer(memory) as multiplexer:
        yield Bench(memory, multiplexer)


def test_a_store_without_a_multiplexer_has_none() -> None:
    assert MeteredStore(MemoryStore()).find_multiplexer() is None


def test_what_comes_is_counted_until_it_is_settled(bench: Bench) -> None:
    bench.inner.held = True
    assert bench.begin()
    assert bench.counted == (1, 0)
    before_s = time.monotonic()
    bench.multiplexer.turn()
    assert bench.counted == (1, 500)
    assert (bench.store.moved_at_s or 0) >= before_s
    bench.inner.go_on()
    bench.multiplexer.turn()
    assert bench.counted == (0, 1000)
    assert bench.ends == [None]
    assert bench.received == CONTENT
    bench.store.settle(bench.ref.key)
    assert bench.counted == (0, 0)


def test_several_are_counted_together(bench: Bench) -> None:
    bench.inner.held = True
    drops = [bench.begin(), bench.begin()]
    assert all(drops)
    assert bench.store.requests_under_way == 2
    bench.inner.go_on()
    bench.multiplexer.turn()
    assert bench.store.requests_under_way == 0


def test_what_is_dropped_is_not_under_way(bench: Bench) -> None:
    bench.inner.held = True
    drop = bench.begin()
    assert drop is not None
    bench.multiplexer.turn()
    drop()
    assert bench.store.requests_under_way == 0
    assert (bench.inner.dropped, bench.ends) == ([bench.ref.key], [])


def test_what_cannot_be_asked_for_is_not_under_way(bench: Bench) -> None:
    bench.inner.is_idle = False
    assert bench.begin() is None
    assert bench.counted == (0, 0)


def test_an_error_of_the_sink_ends_the_request(bench: Bench) -> None:
    bench.raises = OSError("full")
    assert bench.begin()
    bench.multiplexer.turn()
    assert bench.ends == [bench.raises]
    assert bench.counted == (0, 0)


def test_what_comes_again_otherwise_is_not_counted_twice(bench: Bench) -> None:
    bench.inner.breaks.add(bench.ref.key)
    assert bench.begin()
    bench.multiplexer.turn()
    assert isinstance(bench.ends[0], AskOtherwiseError)
    assert bench.counted == (0, 500)
    bench.received.clear()
    ref = bench.ref
    bench.store.get_extent(ref.bucket, ref.key, ref.whole, bench.sink, etag=ref.instance.etag)
    assert bench.counted == (0, 1000)
    assert bench.received == CONTENT


def test_all_else_is_passed_on(bench: Bench) -> None:
    assert bench.multiplexer.fileno() == bench.inner.fileno()
    os.eventfd_write(bench.inner.fileno(), 1)
    bench.multiplexer.expire()
    bench.multiplexer.close()
    assert (bench.inner.expired, bench.inner.closed) == (1, True)
