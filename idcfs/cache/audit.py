"""Checks a whole cache, block by block, from its files alone: `idcfs cache verify`."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.cache.files import OPENING, Descriptor, open_to_write, read_exactly, remove_same
from idcfs.cache.inventory import OBJECTS, PARTIAL, list_objects
from idcfs.cache.listings import decode_listing
from idcfs.cache.partial import is_unbegun, open_described, read_footer, take_apart
from idcfs.cache.paths import Paths
from idcfs.cache.scratch import Scratch
from idcfs.cache.sums import find_sums, keep_sums, remake_sums
from idcfs.cache.units import is_small
from idcfs.errors import CacheError
from idcfs.model import Extent, ObjectRef, SeriesUUID

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from idcfs.cache.blocks import Blocks
    from idcfs.cache.partial import PartialFile
    from idcfs.cache.scratch import ScratchSpace
    from idcfs.cache.shared_scratch import SharedScratch

_RUN_BLOCKS = 32
"""Blocks read at once: 4 MiB."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with one object in the cache."""

    series: SeriesUUID
    name: str
    reason: str
    bad_bytes: int
    """Bytes in blocks that differ from their checksums; all, where nothing can be told."""
    dropped: bool
    """Whether it was removed, so that it is fetched anew."""


@dataclass(slots=True)
class Checked:
    """How far a check has come."""

    objects: int = 0
    """Whole and partial."""
    size_bytes: int = 0
    """Stored bytes that have been compared with their checksums."""


def verify_cache(
    root: Path,
    *,
    drop: bool = True,
    series: Collection[SeriesUUID] | None = None,
    shared: SharedScratch | None = None,
    observe: Callable[[Checked], None] = lambda checked: None,
) -> Iterator[Damage]:
    """Compare every stored block with its checksum, and yield what is damaged.

    With `drop`, a damaged small object is removed, and of others the damaged blocks. `series`
    are all that is looked at; None is everything. In a directory that several hosts share
    (`shared` is this process's place there) objects that are not whole are passed over. Safe
    beside mounts and prefetches: what comes or goes meanwhile may be passed over. `observe`
    is called after each object. Blocks for as long as reading all that takes; what cannot be
    read counts as damaged.
    """
    checked = Checked()
    scratch: ScratchSpace = shared or Scratch(root / "scratch")
    try:
        for tree in (OBJECTS, PARTIAL) if shared is None else (OBJECTS,):
            check = _check_whole if tree == OBJECTS else _check_partial
            for uuid, name in list_objects(root, tree, series):
                auditor = _Auditor(
                    root, uuid, name, checked, scratch, drop=drop, is_shared=shared is not None
                )
                found = check(auditor)
                if found is not None:
                    yield found
                checked.objects += 1
                observe(checked)
    finally:
        if shared is None:
            scratch.close()


class _Auditor:
    """What checking one object needs."""

    def __init__(
        self,
        root: Path,
        series: SeriesUUID,
        name: str,
        checked: Checked,
        scratch: ScratchSpace,
        *,
        drop: bool,
        is_shared: bool,
    ) -> None:
        self.root = root
        self.series = series
        self.name = name
        self.paths = Paths(root, series, name)
        self.checked = checked
        self.scratch = scratch
        self.drop = drop
        self.is_shared = is_shared

    def damage(self, reason: str, bad_bytes: int, *, dropped: bool) -> Damage:
        return Damage(self.series, self.name, reason, bad_bytes, dropped)

    def drop_file(self, path: Path, status: os.stat_result) -> bool:
        return self.drop and remove_same(path, status)

    def drop_blocks(self, blocks: Blocks, bad: list[int]) -> bool:
        """Drop the bad blocks of a whole object alone, if it is not small; tell whether."""
        if not self.drop or self.is_shared or is_small(blocks.size_bytes):
            return False
        with suppress(OSError):
            return take_apart(self.paths, blocks, bad) is not None
        return False

    def find_ref(self) -> ObjectRef | None:
        """Return what a kept listing promises of the object, rather one that gives its MD5."""
        found = None
        for path in (self.root / "listings").glob(f"*/{self.series[:2]}/{self.series}"):
            with suppress(OSError):
                listing = decode_listing(self.series, path.read_bytes())
                for instance in listing.instances if listing else ():
                    if instance.name == self.name and (found is None or instance.md5):
                        found = ObjectRef("", self.series, instance)
        return found

    def bad_blocks(self, file: Descriptor, blocks: Blocks, path: Path) -> list[int]:
        """Return the numbers of the stored blocks that differ, or cannot be read."""
        bad: list[int] = []
        number = 0
        while number < blocks.count:
            run = range(number, min(number + _RUN_BLOCKS, blocks.count))
            stored = [one for one in run if blocks.has(blocks.extent_of(range(one, one + 1)))]
            if len(stored) == len(run):
                bad += self._compare(file, blocks, run, path)
            else:
                for one in stored:
                    bad += self._compare(file, blocks, range(one, one + 1), path)
            number = run.stop
        return bad

    def _compare(self, file: Descriptor, blocks: Blocks, run: range, path: Path) -> list[int]:
        extent = blocks.extent_of(run)
        self.checked.size_bytes += extent.length
        try:
            return blocks.check(extent, read_exactly(file, extent, path))
        except CacheError:
            if len(run) == 1:
                return list(run)
        return [
            bad for one in run for bad in self._compare(file, blocks, range(one, one + 1), path)
        ]


def _check_whole(auditor: _Auditor) -> Damage | None:
    path = auditor.paths.whole
    try:
        file = Descriptor(os.open(path, os.O_RDONLY | OPENING))
        status = os.fstat(file.number)
    except OSError as exc:
        return None if isinstance(exc, FileNotFoundError) else _unreadable(auditor, exc)
    blocks = find_sums(file, status.st_size, auditor.paths)
    if blocks is None:
        blocks = _adopt(auditor, file, status.st_size)
    if blocks is None:
        dropped = auditor.drop_file(path, status)
        reason = "its length is wrong, or it has no checksums"
        return auditor.damage(reason, status.st_size, dropped=dropped)
    bad = auditor.bad_blocks(file, blocks, path)
    if not bad:
        return None
    bad_bytes = sum(blocks.extent_of(range(one, one + 1)).length for one in bad)
    dropped = auditor.drop_blocks(blocks, bad) or auditor.drop_file(path, status)
    return auditor.damage(f"block {bad[0]} is not what was stored", bad_bytes, dropped=dropped)


def _adopt(auditor: _Auditor, file: Descriptor, size_bytes: int) -> Blocks | None:
    ref = auditor.find_ref()
    if ref is None or ref.instance.size_bytes != size_bytes:
        return None
    try:
        blocks = remake_sums(file, ref, auditor.paths.whole)
    except CacheError:
        return None
    if blocks is not None:
        with suppress(OSError):
            keep_sums(file, blocks, auditor.paths, auditor.scratch)
    return blocks


def _check_partial(auditor: _Auditor) -> Damage | None:
    path = auditor.paths.partial
    try:
        file = open_to_write(path)
        status = os.fstat(file.number)
        found = read_footer(file.number, status.st_size, auditor.paths.identity)
        if found is None:
            if is_unbegun(file.number, status.st_size):
                return None  # just being made, or its maker was killed then
            if find_sums(file, status.st_size, auditor.paths) is not None:
                return None  # just being completed
            dropped = auditor.drop_file(path, status)
            return auditor.damage("its table of blocks is damaged", status.st_size, dropped=dropped)
        partial = open_described(auditor.paths, file, found[0])
        if partial is None:
            return None
        bad = auditor.bad_blocks(partial.file, partial.blocks, path)
        if not bad:
            return None
        extents = [partial.blocks.extent_of(range(one, one + 1)) for one in bad]
        dropped = auditor.drop and _clear(partial, bad)
    except FileNotFoundError:
        return None
    except (OSError, CacheError) as exc:
        return _unreadable(auditor, exc)
    return auditor.damage(
        f"block {bad[0]} is not what was stored",
        sum(map(_length, extents)),
        dropped=dropped,
    )


def _clear(partial: PartialFile, bad: list[int]) -> bool:
    """Count blocks as missing; tell whether the disk, which may be read-only, takes that."""
    with suppress(OSError, CacheError):
        for one in bad:
            partial.clear(range(one, one + 1))
        return True
    return False


def _length(extent: Extent) -> int:
    return extent.length


def _unreadable(auditor: _Auditor, exc: Exception) -> Damage:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return auditor.damage(f"it cannot be read: {reason}", 0, dropped=False)
