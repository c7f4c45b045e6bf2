"""The files of series: listed and read through the cache, a piece at a time."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from idcfs.errors import UsageError
from idcfs.model import Extent, ObjectRef
from idcfs.store.endpoint import get_endpoint, object_url, origin_of

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from typing import BinaryIO

    import trio

    from idcfs.fetch import Fetcher, ObjectReader
    from idcfs.model import Bytes, Series
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.store.endpoint import Source
    from idcfs.store.s3 import S3Store

T = TypeVar("T")

_BUFFER_BYTES = 128 * 1024
"""What the cache keeps and checks as one; also the kernel's reads."""


_CLOSED = "the index is closed, so its files cannot be read any more"


class File:
    """One DICOM file in the store."""

    def __init__(self, remote: Remote, ref: ObjectRef) -> None:
        self._remote = remote
        self._ref = ref

    @property
    def name(self) -> str:
        """The file's name."""
        return self._ref.instance.name

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self._ref.instance.size_bytes

    @property
    def md5(self) -> str | None:
        """The MD5 of its content in hex, where the store gives one."""
        return self._ref.instance.md5

    @property
    def crdc_series_uuid(self) -> str:
        """The series that it belongs to."""
        return self._ref.series

    @property
    def url(self) -> str:
        """Its `s3://` URL at the source that the index was opened for."""
        return object_url(self._remote.bucket_name(self._ref.bucket), self._ref.key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Fetch it into a file, which appears when it is whole and checked.

        Nothing is fetched that the cache holds. Raises StoreError, OSError.
        """
        self._remote.save(self._ref, Path(path))

    def json_line(self) -> str:
        """Return the line of JSON that `s5cmd --json ls` writes of it, with its line end."""
        from idcfs.prefetch.file_list import file_line

        return file_line(self.url, self._ref.instance)

    def open(self) -> BinaryIO:
        """Open it for reading, as a binary file that can seek.

        Only what is read is fetched, and something ahead of it, through the cache: what was
        read once is read without a network. Reading raises StoreError, and OSError
        never.
        """
        return io.BufferedReader(_RemoteFile(self._remote, self._ref), _BUFFER_BYTES)

    def __repr__(self) -> str:
        return f"<idcfs.File {self.url}>"


class Remote:
    """Where files come from, and the thread that brings them, once one is wanted.

    The fetch room belongs to one thread and its trio loop; calls are handed over to it.
    """

    def __init__(self, cache_dir: Path, endpoint_url: str | None, source: Source) -> None:
        self._cache_dir = cache_dir
        self._endpoint = get_endpoint(endpoint_url, source)
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._closed = False

    def bucket_name(self, bucket: str) -> str:
        """Return what the index's bucket is called at the source."""
        return self._endpoint.bucket_name(bucket)

    def request(
        self,
        download_dir: Path | None,
        *,
        jobs: int | None,
        verify: Literal["full", "length"],
        cache_size: str | None = None,
        min_free: str | None = None,
        limit_rate: int | str | None = None,
        report_path: Path | None,
        from_dir: Path | None = None,
        only_examine: bool = False,
    ) -> PrefetchRequest:
        """Return the request for a prefetch from here."""
        from idcfs.prefetch.job import PrefetchRequest
        from idcfs.prefetch.limit import parse_rate
        from idcfs.prefetch.targets import Verify

        if verify not in ("full", "length"):
            raise UsageError(f"verify is 'full' or 'length', not {verify!r}")
        if jobs is not None and not 1 <= jobs <= 256:
            raise UsageError(f"jobs must be 1 to 256, not {jobs}")
        return PrefetchRequest(
            download_dir=download_dir,
            cache_dir=self._cache_dir,
            endpoint_url=self._endpoint_url,
            source=self._endpoint.source,
            jobs=jobs,
            verify=Verify(verify),
            cache_size=cache_size,
            min_free=min_free,
            bytes_per_s=None if limit_rate is None else parse_rate(str(limit_rate)),
            report_path=report_path,
            from_dir=from_dir,
            only_examine=only_examine,
        )

    def files(self, series: Series) -> list[File]:
        """List a series. Raises StoreError."""
        loop = self._running()
        listing = loop.call(lambda fetcher: fetcher.listing(series))
        return [
            File(self, ObjectRef(series.bucket, series.uuid, instance))
            for instance in listing.instances
        ]

    def new_store(self) -> S3Store:
        """Return a store at Amazon, or the server that stands in for it, to be closed."""
        from idcfs.store.s3 import S3Store

        return S3Store(endpoint_url=self._endpoint_url)

    def file(self, series: Series, name: str) -> File:
        """Return one file of a series. Raises StoreError, UsageError if it has no such file."""
        for each in self.files(series):
            if each.name == name:
                return each
        raise UsageError(f"the store has no file {name} in series {series.uuid}")

    def save(self, ref: ObjectRef, path: Path) -> None:
        """Have an object in a file of the user's. Raises StoreError, OSError."""
        from idcfs.fetch.copying import copy_cached

        loop = self._running()
        loop.call(
            lambda fetcher: fetcher.download(
                ref,
                path,
                find_present=lambda: copy_cached(loop.cache, ref, path, verify_content=True),
            )
        )

    def open(self, ref: ObjectRef) -> ObjectReader:
        """Return the reader of an object; `close_reader` must follow."""

        async def open_reader(fetcher: Fetcher) -> ObjectReader:
            return fetcher.open(ref)

        return self._running().call(open_reader)

    def read(self, reader: ObjectReader, extent: Extent) -> Bytes:
        """Read bytes, short only at the end of the file. Raises StoreError."""
        return self._running().call(lambda fetcher: reader.read(extent))

    def close_reader(self, reader: ObjectReader) -> None:
        """Give a reader back; nothing happens once all is closed."""

        async def close_reader(fetcher: Fetcher) -> None:
            fetcher.close_reader(reader)

        with self._lock:
            loop = self._loop
        if loop is not None:
            loop.call(close_reader)

    def close(self) -> None:
        """End the thread, if there is one."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None:
            loop.stop()

    def _running(self) -> _Loop:
        with self._lock:
            if self._closed:
                raise UsageError(_CLOSED)
            if self._loop is None:
                origin = origin_of(self._endpoint_url, self._endpoint.source)
                self._loop = _Loop(
                    self._cache_dir, origin, self._endpoint_url, self._endpoint.source
                )
            return self._loop


class _Loop:
    """A trio loop on a thread of its own, with a fetcher on it."""

    def __init__(
        self, cache_dir: Path, origin: str, endpoint_url: str | None, source: Source
    ) -> None:
        from idcfs.cache.opening import open_cache
        from idcfs.fetch import MAX_TRANSFERS
        from idcfs.store.s3 import S3Store

        # Before the cache, which would have to be closed if this raises.
        self._store = S3Store(
            endpoint_url=endpoint_url, source=source, max_connections=MAX_TRANSFERS
        )
        self.cache = open_cache(cache_dir, origin=origin).cache
        self._ready = threading.Event()
        """Set when the loop runs, or has failed to."""
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken
        self._stopping: trio.Event
        self._fetcher: Fetcher
        # A daemon: who forgets to close does not keep the interpreter from ending, and the
        # cache stands a process that ends at any instant.
        self._thread = threading.Thread(target=self._run, name="idcfs-files", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads are to be had
            self.cache.close()
            raise
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def call(self, function: Callable[[Fetcher], Awaitable[T]]) -> T:
        """Run a function on the loop, and return or raise what it does."""
        import trio

        try:
            return trio.from_thread.run(function, self._fetcher, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled) as exc:
            raise UsageError(_CLOSED) from exc

    def stop(self) -> None:
        """End the loop and wait for it."""
        self._token.run_sync_soon(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            import trio

            trio.run(self._serve)
        except BaseException as exc:
            if self._ready.is_set():
                raise
            self._failure = exc
        finally:
            self.cache.close()
            self._ready.set()

    async def _serve(self) -> None:
        import trio

        from idcfs.fetch import Fetcher

        async with trio.open_nursery() as nursery:
            self._fetcher = Fetcher(store=self._store, cache=self.cache, nursery=nursery)
            self._token = trio.lowlevel.current_trio_token()
            self._stopping = trio.Event()
            self._ready.set()
            try:
                await self._stopping.wait()
            finally:
                nursery.cancel_scope.cancel()
                self._store.close()  # ends the pauses between attempts
                self._fetcher.close()


class _RemoteFile(io.RawIOBase):
    """An object as a raw binary file."""

    def __init__(self, remote: Remote, ref: ObjectRef) -> None:
        self._remote = remote
        self._ref = ref
        self._at = 0
        self._reader = remote.open(ref)

    @property
    def name(self) -> str:
        """The object's URL, for who asks a file its name."""
        return object_url(self._remote.bucket_name(self._ref.bucket), self._ref.key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what io hands over
        length = max(min(len(buffer), self._ref.instance.size_bytes - self._at), 0)
        if not length:
            return 0
        content = self._remote.read(self._reader, Extent(self._at, length))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ref.instance.size_bytes}
        if whence not in starts or starts[whence] + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._at = starts[whence] + offset
        return self._at

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._remote.close_reader(self._reader)
