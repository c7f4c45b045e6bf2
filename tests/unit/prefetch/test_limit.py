"""Bytes held to a rate."""

from __future__ import annotations

import threading
import time

import pytest

from idcfs.errors import UsageError
from idcfs.model import Extent
from idcfs.prefetch.limit import LimitedStore, RateLimit, parse_rate
from tests.support.stores import MemoryStore, make_content


@pytest.mark.parametrize(
    ("text", "rate"),
    [("10MB", 10_000_000), ("1.5MiB", 1_572_864), ("500k/s", 500_000), (" 4096 ", 4096)],
)
def test_rates_are_written_like_sizes(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "0.2", "none", "80%", "fast", "", "-1", "10MB/h"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rate: write bytes a second"):
        parse_rate(text)


def test_takers_wait_in_turn_and_nothing_is_saved_up() -> None:
    now, waits = 0.0, list[float]()
    limit = RateLimit(100, clock=lambda: now, sleep=waits.append)
    for count in (50, 100, 25):
        limit.take(count)
    now = 60.0
    limit.take(10)
    assert waits == pytest.approx([0.5, 1.5, 1.75, 0.1])


def test_several_threads_keep_to_the_rate_together() -> None:
    rate, threads = 200_000, 8
    content = make_content(16_000)
    memory = MemoryStore()
    refs = [memory.add_content(content, f"{n}.dcm") for n in range(threads)]
    store = LimitedStore(memory, RateLimit(rate))
    got = [bytearray() for _ in refs]
    started_s = time.monotonic()
    workers = [
        threading.Thread(
            target=store.get_extent,
            args=(ref.bucket, ref.key, Extent(0, len(content)), into.extend),
            kwargs={"etag": ref.instance.etag},
        )
        for ref, into in zip(refs, got, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    # Later than this on a busy machine, but never earlier.
    assert time.monotonic() - started_s >= threads * len(content) / rate
    assert all(each == content for each in got)


def test_what_is_held_up_moves_all_the_time() -> None:
    memory = MemoryStore(chunk_bytes=1000)
    ref = memory.add_content(make_content(1000))
    waits, pieces = list[float](), list[int]()
    store = LimitedStore(memory, RateLimit(400, clock=lambda: 0.0, sleep=waits.append))
    store.get_extent(
        ref.bucket,
        ref.key,
        ref.whole,
        lambda piece: pieces.append(len(piece)),
        etag=ref.instance.etag,
    )
    assert pieces == [100] * 10
    assert waits == pytest.approx([0.25 * n for n in range(1, 11)])
