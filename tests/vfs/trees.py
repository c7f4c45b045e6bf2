"""A directory tree made from paths, and a file system over it."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from idcfs.cache import DiskCache
from idcfs.errors import NoSuchEntryError
from idcfs.fetch import Fetcher
from idcfs.model import ROOT, DirectoryId, Series, TreeTotals
from idcfs.vfs.attributes import Ownership
from idcfs.vfs.filesystem import FileSystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from pathlib import Path

    from idcfs.store import ObjectStore

OWNERSHIP = Ownership(uid=1234, gid=567)


class DictTree:
    """A `DirectoryTree` over `{path: series}`.

    Identities count through `everything`, all paths that there could be, so that
    they stay the same for any selection of them.
    """

    def __init__(
        self, leaves: Mapping[str, Sequence[Series]], everything: Iterable[str] = ()
    ) -> None:
        numbers: dict[str, DirectoryId] = {"": ROOT}
        for path in sorted({*leaves, *everything}):
            parts = path.split("/") if path else []
            for above in itertools.accumulate(parts, "{}/{}".format):
                numbers.setdefault(above, DirectoryId(len(numbers)))
        self._series = {numbers[path]: list(series) for path, series in leaves.items()}
        self._parents: dict[DirectoryId, DirectoryId] = {ROOT: ROOT}
        self._paths: dict[DirectoryId, str] = {ROOT: ""}
        self._children: dict[DirectoryId, dict[str, DirectoryId]] = {ROOT: {}}
        for path, number in numbers.items():
            if path and any(leaf == path or leaf.startswith(f"{path}/") for leaf in leaves):
                above, _, name = path.rpartition("/")
                self._parents[number] = numbers[above]
                self._paths[number] = path
                self._children.setdefault(numbers[above], {})[name] = number
                self._children.setdefault(number, {})
        self._rows = {each.number: each for series in leaves.values() for each in series}

    @property
    def totals(self) -> TreeTotals:
        counts = [series.instance_count or 0 for series in self._rows.values()]
        return TreeTotals(len(self._rows), sum(counts), 10_000)

    @property
    def mtime_ns(self) -> int:
        return 1_600_000_000_000_000_000

    def contains(self, directory: DirectoryId) -> bool:
        return directory in self._paths

    def get_parent(self, directory: DirectoryId) -> DirectoryId:
        return self._parents[self._known(directory)]

    def get_path(self, directory: DirectoryId) -> str:
        return self._paths[self._known(directory)]

    def is_leaf(self, directory: DirectoryId) -> bool:
        return self._known(directory) in self._series

    def count_children(self, directory: DirectoryId) -> int:
        return len(self._children[self._known(directory)])

    def children(self, directory: DirectoryId) -> Sequence[tuple[str, DirectoryId]]:
        children = self._children[self._known(directory)].items()
        return sorted(children, key=lambda pair: pair[0].encode())

    def find_child(self, directory: DirectoryId, name: str) -> DirectoryId | None:
        return self._children[self._known(directory)].get(name)

    def series(self, directory: DirectoryId) -> Sequence[Series]:
        return self._series.get(self._known(directory), [])

    def find_series(self, number: int) -> Series | None:
        return self._rows.get(number)

    def leaves_of(self, series: Series) -> Sequence[DirectoryId]:
        return [leaf for leaf, held in self._series.items() if series in held]

    def _known(self, directory: DirectoryId) -> DirectoryId:
        if directory not in self._paths:
            raise NoSuchEntryError(f"no directory {directory}")
        return directory


@asynccontextmanager
async def serving(tree: object, store: ObjectStore, root: Path) -> AsyncIterator[FileSystem]:
    """Give a file system over `tree`, a `DirectoryTree`; afterwards its services must be alive."""
    cache = DiskCache(root)
    async with trio.open_nursery() as services:
        fetcher = Fetcher(store=store, cache=cache, nursery=services)
        yield FileSystem(tree=tree, fetcher=fetcher, ownership=OWNERSHIP)  # type: ignore[arg-type]  # some trees are partial
        fetcher.close()
    cache.close()
