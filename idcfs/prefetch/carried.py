"""Files that were fetched elsewhere and brought here, in the place of a store.

What a series holds is told by the lists that came with the files, or by the store if it
answers; what the files hold is checked against that, as it is when it comes by the network.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.errors import IntegrityError, ObjectNotFoundError, StoreError, UsageError
from idcfs.prefetch.file_list import FILE_LISTS, FileLists
from idcfs.store import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idcfs.model import Checksum, Extent, Series
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.protocol import OfferedSink

    Layout = Callable[[], Iterable[tuple[Series, str]]]

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20


def open_file_lists(root: Path) -> FileLists:
    """Read the lists in a directory of files. Raises UsageError if it cannot be read."""
    try:
        if not root.is_dir():
            raise UsageError(f"there is no directory {root} to take files from")
        return FileLists(root.glob(FILE_LISTS))
    except OSError as exc:
        raise UsageError(f"cannot read {exc.filename or root}: {exc.strerror}") from exc


class CarriedStore:
    """An `ObjectStore` of the files below a directory, whatever the directories in it.

    They are found by name, which is unique for content: `<instance UUID>.dcm`. That takes
    some 200 bytes of memory a file. `remote` is asked for listings where there is no list, until it
    fails once; never for content. `layout`, if given, tells series and their directories:
    what is there is then believed to be the series, by number and bytes, if nothing else
    tells what is.
    """

    def __init__(self, root: Path, *, remote: ObjectStore, layout: Layout | None) -> None:
        """Raises UsageError if the directory cannot be read."""
        self._root = root
        self._lists = open_file_lists(root)
        self._remote = remote
        self._why_not: StoreError | None = None
        """What the store answered instead of a listing."""
        self._answers = False
        self._asking = threading.Lock()
        self._directories: list[str] = []
        self._places: dict[str, int | tuple[int, ...]] = {}
        """By name, the numbers of the directories that have such a file."""
        self._scan()
        self._believed: set[str] = set()
        self._own = _own_directories(layout()) if layout is not None else None

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """See `ObjectStore.list_prefix`. Raises StoreError if nothing tells what there is."""
        uuid = prefix.rstrip("/")
        if listed := self._lists.objects(uuid):
            return listed
        if listed := self._ask(bucket, prefix, expected):
            return listed
        if self._own is not None:
            return self._believe(uuid, expected)
        reason = f": {self._why_not}" if self._why_not else ""
        raise StoreError(
            f"neither a list of files in {self._root}, such as the script of `idcfs manifest "
            f"--script` writes, nor the cache nor the store tells what it holds{reason}; "
            "--verify length takes what is there, if its number and bytes are right"
        )

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
        """See `ObjectStore.get_extent`."""
        path = self._find(key, extent.end)
        left = extent.length
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(extent.offset)
                while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
                    left -= len(chunk)
                    sink(memoryview(chunk))
                more = offered is not None and bool(file.read(1))
        except OSError as exc:
            if exc.filename is None:  # the sink's: the disk that is written to
                raise
            raise StoreError(f"cannot read {path}: {exc.strerror}") from exc
        if left or more:
            raise IntegrityError(f"{path} is {'longer' if more else 'shorter'} than it should be")

    def find_checksums(self, bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        """See `ObjectStore.find_checksums`."""
        return ()

    def find_multiplexer(self) -> None:
        """Return None: files are read one at a time."""

    def close(self) -> None:
        """See `ObjectStore.close`. Says what could not be checked in full."""
        if self._believed:
            logger.warning(
                "%d series were taken for what they are by the number and bytes of their files: "
                "nothing here knows their checksums",
                len(self._believed),
            )
            self._believed.clear()  # who is interrupted closes it twice
        self._remote.close()

    def _scan(self) -> None:
        def fail(exc: OSError) -> None:
            raise UsageError(f"cannot read {exc.filename}: {exc.strerror}") from exc

        for directory, _, names in os.walk(self._root, onerror=fail):
            number = len(self._directories)
            self._directories.append(directory)
            for name in names:
                if name[0] != ".":  # what was not whole yet
                    before = self._places.get(name)
                    both = (before,) if isinstance(before, int) else before
                    self._places[name] = number if both is None else (*both, number)

    def _ask(self, bucket: str, prefix: str, expected: int | None) -> list[StoredObject]:
        """Ask the store, unless it has failed before."""
        # One waits for it to answer or to fail, not all.
        with nullcontext() if self._answers else self._asking:
            if self._why_not is not None:
                return []
            try:
                found = self._remote.list_prefix(bucket, prefix, expected=expected)
                self._answers = True
                return found
            except ObjectNotFoundError:
                return []
            except StoreError as exc:
                logger.info("going on without the store: %s", exc)
                self._why_not = exc
                return []

    def _believe(self, uuid: str, expected: int | None) -> list[StoredObject]:
        """Return the files in the series' own directory, if they may be the series."""
        assert self._own is not None
        directory, size_bytes = self._own.get(uuid, (None, 0))
        for place in (self._root / uuid, self._root / directory if directory else None):
            if place is not None and place.is_dir():
                found = list(_files(place, uuid))
                total_bytes = sum(each.size_bytes for each in found)
                if expected in (None, len(found)) and total_bytes == size_bytes:
                    self._believed.add(uuid)
                    return found
                raise StoreError(
                    f"{place} has {len(found):,} files of {total_bytes:,} bytes, the index "
                    f"expects {expected or 'some'} of {size_bytes:,}"
                )
        raise ObjectNotFoundError(
            f"{self._root} has neither a directory {uuid} nor one that only this series has by "
            "--dir-template"
        )

    def _find(self, key: str, end: int) -> Path:
        """Return the file of an object; of several the one below its UUID, if it is whole."""
        uuid, _, name = key.partition("/")
        found = self._places.get(name, ())
        numbers = (found,) if isinstance(found, int) else found
        paths = [Path(self._directories[number], name) for number in numbers]
        paths.sort(key=lambda path: path.parent.name != uuid)
        for path in paths:
            if _size(path) >= end:
                return path
        if paths:
            raise IntegrityError(f"{paths[0]} is shorter than it should be")
        raise ObjectNotFoundError(f"there is no file {name} in {self._root}")


def _own_directories(placed: Iterable[tuple[Series, str]]) -> dict[str, tuple[str | None, int]]:
    """Return the directory of each series, None if it shares it, and its bytes."""
    own: dict[str, tuple[str | None, int]] = {}
    latest, directory = None, None
    for series, place in placed:  # in path order
        if place == directory and latest is not None:
            own[latest.uuid] = (None, latest.size_bytes)
            own[series.uuid] = (None, series.size_bytes)
        else:
            own[series.uuid] = (place, series.size_bytes)
        latest, directory = series, place
    return own


def _files(directory: Path, uuid: str) -> Iterator[StoredObject]:
    for path in directory.iterdir():
        if path.name[0] != "." and path.is_file():
            status = path.stat()
            yield StoredObject(f"{uuid}/{path.name}", status.st_size, status.st_mtime_ns, "")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
