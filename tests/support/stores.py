"""A store in memory that counts what it is asked and fails as told, and a gate for threads."""

from __future__ import annotations

import functools
import hashlib
import threading
from typing import TYPE_CHECKING, ParamSpec
from uuid import UUID

import trio

from idcfs.errors import ObjectNotFoundError
from idcfs.model import Extent, Instance, ObjectRef, Series, SeriesUUID
from idcfs.store.protocol import StoredObject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.model import Checksum
    from idcfs.store.protocol import Multiplexer, OfferedSink, Sink

P = ParamSpec("P")

BUCKET = "idc-open-data"
MTIME_NS = 1_700_000_000_123_456_000
_PATIENCE_S = 20.0


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test to its end, or fail it after a while."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            with trio.fail_after(_PATIENCE_S):
                await test(*args, **kwargs)

        trio.run(bounded)

    return run


def series_uuid(number: int) -> SeriesUUID:
    """Return one of many UUIDs."""
    return SeriesUUID(str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)))


def make_series(number: int = 1, *, count: int | None = 1, row: int | None = None) -> Series:
    return Series(series_uuid(number), BUCKET, number if row is None else row, count, 0)


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def make_content(length: int, seed: int = 0) -> bytes:
    """Return bytes that look the same at no two offsets."""
    blocks = range(length // 32 + 1)
    return b"".join(hashlib.sha256(b"%d %d" % (seed, n)).digest() for n in blocks)[:length]


def make_ref(
    content: bytes, name: str = "a.dcm", *, series: int = 1, etag: str | None = None
) -> ObjectRef:
    etag = md5_of(content) if etag is None else etag
    return ObjectRef(BUCKET, series_uuid(series), Instance(name, len(content), MTIME_NS, etag))


class Gate:
    """Holds worker threads until it is opened; tells the test how many have arrived."""

    def __init__(self) -> None:
        self._arrivals = threading.Semaphore(0)
        self._opened = threading.Event()

    def hold(self) -> None:
        """Wait in a worker thread."""
        self._arrivals.release()
        assert self._opened.wait(_PATIENCE_S), "nobody opened the gate"

    def open(self) -> None:
        self._opened.set()

    async def arrived(self) -> None:
        """Wait until one more thread has come to the gate."""
        if not await trio.to_thread.run_sync(self._arrivals.acquire, True, _PATIENCE_S):
            raise AssertionError("no thread came to the gate")


class MemoryStore:
    """An `ObjectStore` in memory.

    `on_get` and `on_list` run in the calling thread before each answer: they may
    raise or wait. `between_chunks` runs before each chunk but the first. `alter`
    may change what is sent.
    """

    def __init__(self, *, chunk_bytes: int = 1 << 16) -> None:
        self.objects: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.checksums: dict[str, Checksum] = {}
        """What is offered with the object besides the ETag."""
        self.gets: list[tuple[str, Extent]] = []
        self.lists: list[str] = []
        self.ended: list[str] = []
        """The names of the exceptions that ended transfers; "" for those that ended well."""
        self.on_get: Callable[[str, Extent], None] = lambda key, extent: None
        self.on_list: Callable[[str], None] = lambda prefix: None
        self.between_chunks: Callable[[], None] = lambda: None
        self.alter: Callable[[bytes], bytes] = lambda body: body
        self.multiplexer: Multiplexer | None = None
        self._chunk_bytes = chunk_bytes

    def add(self, ref: ObjectRef, content: bytes) -> None:
        self.objects[ref.key] = content
        self.etags[ref.key] = ref.instance.etag

    def add_content(self, content: bytes, name: str = "a.dcm", *, series: int = 1) -> ObjectRef:
        ref = make_ref(content, name, series=series)
        self.add(ref, content)
        return ref

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        self.lists.append(prefix)
        self.on_list(prefix)
        return [
            StoredObject(key, len(content), MTIME_NS, self.etags[key])
            for key, content in sorted(self.objects.items())
            if key.startswith(prefix)
        ]

    def find_checksums(self, bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        return (self.checksums[key],) if key in self.checksums else ()

    def get_extent(
        self,
        bucket: str,
        key: str,
        extent: Extent,
        sink: Sink,
        *,
        etag: str,
        offered: OfferedSink | None = None,
    ) -> None:
        self.gets.append((key, extent))
        try:
            if offered is not None and key in self.checksums:
                offered((self.checksums[key],))
            self._send(key, extent, sink)
        except BaseException as exc:
            self.ended.append(type(exc).__name__)
            raise
        self.ended.append("")

    def _send(self, key: str, extent: Extent, sink: Sink) -> None:
        self.on_get(key, extent)
        if key not in self.objects:
            raise ObjectNotFoundError(f"no {key}")
        body = self.alter(self.objects[key][extent.offset : extent.end])
        for offset in range(0, len(body), self._chunk_bytes):
            if offset:
                self.between_chunks()
            # Overwritten afterwards: whoever keeps the memory has not read the protocol.
            chunk = bytearray(body[offset : offset + self._chunk_bytes])
            sink(memoryview(chunk))
            chunk[:] = bytes(len(chunk))

    def find_multiplexer(self) -> Multiplexer | None:
        return self.multiplexer

    def close(self) -> None:
        pass
