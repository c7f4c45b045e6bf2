"""Lists of files with their checksums, as `s5cmd --json ls` writes them: one JSON line a file.

They travel with files that were fetched elsewhere, so that those can be checked where no
store is in reach. What stands in them is checked like what a store says.
"""

from __future__ import annotations

import json
import re
from array import array
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from idcfs.store import StoredObject
from idcfs.store.pages import bare_etag, nanoseconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from idcfs.model import Instance

FILE_LISTS = "idc-files*.jsonl"
"""What the lists in a directory are called; each script of `idcfs manifest` writes its own."""

_KEY = re.compile(
    rb'"key": ?"s3://[^/"]+/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/'
)
_LINE_MAX_BYTES = 64 * 1024


class FileLists:
    """Any number of lists. Only where each line begins is kept in memory, 8 bytes a file.

    Any thread. Raises OSError.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = sorted(paths)
        self._lines: dict[str, list[array[int]]] = {}
        """By series, the offsets of its lines in each list."""
        for number, path in enumerate(self._paths):
            self._read(number, path)

    def series(self) -> list[str]:
        """Return the UUIDs of all series in the lists, sorted."""
        return sorted(self._lines)

    def objects(self, uuid: str) -> list[StoredObject]:
        """Return what the lists have of a series: each name once; lines that are cut count not."""
        found: dict[str, StoredObject] = {}
        for path, offsets in zip(self._paths, self._lines.get(uuid, []), strict=False):
            with path.open("rb") as file:
                for offset in offsets:
                    file.seek(offset)
                    stored = _parse(file.readline(_LINE_MAX_BYTES))
                    if stored is not None:
                        found[stored.key] = stored
        return list(found.values())

    def _read(self, number: int, path: Path) -> None:
        offset = 0
        with path.open("rb") as file:
            while line := file.readline(_LINE_MAX_BYTES):
                if key := _KEY.search(line):
                    lists = self._lines.setdefault(key[1].decode(), [])
                    lists.extend(array("Q") for _ in range(number + 1 - len(lists)))
                    lists[number].append(offset)
                offset += len(line)


def file_line(url: str, instance: Instance) -> str:
    """Return the line for a file, with its line end."""
    modified = datetime.fromtimestamp(instance.mtime_ns / 1e9, UTC)
    told = {
        "key": url,
        "etag": instance.etag,
        "last_modified": modified.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": "file",
        "size": instance.size_bytes,
    }
    return json.dumps(told, separators=(",", ":")) + "\n"


def _parse(line: bytes) -> StoredObject | None:
    try:
        told = json.loads(line)
        _, _, key = told["key"].removeprefix("s3://").partition("/")
        size_bytes = int(told["size"])
        return StoredObject(
            key, size_bytes, nanoseconds_of(told["last_modified"]), bare_etag(told["etag"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
