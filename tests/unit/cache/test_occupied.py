"""What the books say of objects is what their files occupy, whatever has happened to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.ledgers import in_books, on_disk, quiet
from tests.unit.cache.steps import path_of, store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.cache.disk_ledger import DiskLedger

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
