"""What the books say of objects is what their files occupy, whatever has happened to them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, completion, partial, sums, units
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.ledgers import booked_and_reserved, in_books, on_disk, quiet
from tests.unit.cache.steps import path_of, store, store_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.cache.blocks import Blocks
    from idcfs.cache.disk_ledger import DiskLedger
    from idcfs.cache.files import Descriptor
    from idcfs.cache.paths import Paths
    from idcfs.cache.scratch import ScratchSpace

CONTENT = make_content(90)
LARGE = make_content(150)


@pytest.fixture
def ledgers(root: Path) -> Iterator[tuple[DiskLedger, DiskLedger]]:
    both = quiet(root, None), quiet(root, None)
    yield both
    for each in both:
        each.close()


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
def test_what_two_find_damaged_leaves_the_books_once(
    root: Path, ledgers: tuple[DiskLedger, DiskLedger], content: bytes
) -> None:
    caches = [DiskCache(root, ledger=ledger) for ledger in ledgers]
    refs = [make_ref(content, f"{number}.dcm") for number in range(4)]
    for ref in refs:
        held = caches[0].open(ref)
        store(held, content, ref.whole)
        held.close()
    ledgers[0].flush()
    opened = [cache.open(refs[0]) for cache in caches]
    with path_of(root, refs[0]).open("r+b") as file:
        file.write(b"bad")
    for each in opened:
        each.discard(Extent(0, 10))
        each.close()
    # At first: what falls below nothing is counted again, which hides the mistake.
    for ledger in ledgers:
        ledger.flush()
    assert in_books(ledgers[0]) == on_disk(root)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("blocks", [10, 200, 1000], ids=["inode", "block", "file"])
@pytest.mark.parametrize("in_parts", [True, False])
def test_checksums_are_in_the_books_wherever_they_are_kept(
    root: Path,
    ledgers: tuple[DiskLedger, DiskLedger],
    monkeypatch: pytest.MonkeyPatch,
    blocks: int,
    in_parts: bool,
) -> None:
    content = make_content(blocks * units.BLOCK_BYTES)
    monkeypatch.setattr(units, "WHOLE_LIMIT_BYTES", 0 if in_parts else len(content))
    ref = make_ref(content)
    with_both: list[int] = []

    def keep(file: Descriptor, blocks: Blocks, paths: Paths, scratch: ScratchSpace) -> int:
        kept_bytes = sums.keep_sums(file, blocks, paths, scratch)
        with_both.append(sum(on_disk(root).values()))
        assert with_both[-1] <= booked_and_reserved(root)
        return kept_bytes

    monkeypatch.setattr(completion, "keep_sums", keep)
    held = DiskCache(root, ledger=ledgers[0]).open(ref)
    store(held, content, ref.whole)
    held.close()
    ledgers[0].flush()
    assert len(with_both) == in_parts
    assert in_books(ledgers[1]) == on_disk(root)


@pytest.mark.usefixtures("small_units")
def test_checksums_of_what_is_adopted_come_into_the_books(
    root: Path, ledgers: tuple[DiskLedger, DiskLedger]
) -> None:
    content = make_content(200 * units.BLOCK_BYTES)
    ref = make_ref(content)
    cache = DiskCache(root, ledger=ledgers[0])
    path_of(root, ref).parent.mkdir(parents=True)
    path_of(root, ref).write_bytes(content)
    ledgers[0].recount()
    cache.open(ref).close()
    ledgers[0].flush()
    assert in_books(ledgers[1]) == on_disk(root)


@pytest.mark.parametrize("has_holes", [True, False])
def test_what_a_transfer_leaves_behind_is_not_there_or_in_the_books(
    root: Path,
    ledgers: tuple[DiskLedger, DiskLedger],
    monkeypatch: pytest.MonkeyPatch,
    has_holes: bool,
) -> None:
    content = make_content(9 << 20)
    ref = make_ref(content)
    held = DiskCache(root, ledger=ledgers[0]).open(ref)
    store(held, content, Extent(0, 1 << 20))
    if not has_holes:
        monkeypatch.setattr(partial, "make_hole", refuse)
    for offset in (1 << 20, 4 << 20):
        writer = held.writer(Extent(offset, 2 << 20))
        assert writer is not None
        writer.write(memoryview(content)[offset : offset + (1 << 20) + 5])
        writer.abort()
    ledgers[0].flush()
    left = 2 * ((1 << 20) + 4096)
    assert in_books(ledgers[1])[ref.series] == (1 << 20) + 4096 + (0 if has_holes else left)
    assert on_disk(root) == in_books(ledgers[1])
    assert held.read(Extent(0, 1 << 20)) == content[: 1 << 20]
    store_all(held, ref, content)
    assert held.read(ref.whole) == content
    held.close()


def refuse(fd: int, start: int, length: int) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
