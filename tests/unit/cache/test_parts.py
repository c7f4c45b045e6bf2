"""Small objects of which only a part is wanted, or comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, units
from idcfs.cache.audit import verify_cache
from idcfs.errors import CacheError, IntegrityError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.ledgers import in_books, on_disk, quiet
from tests.unit.cache.steps import part_of, path_of, start, store, store_all, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.cache.disk_ledger import DiskLedger

CONTENT = make_content(90)
REF = make_ref(CONTENT)
HEAD = Extent(0, 20)
REST = Extent(20, 70)
pytestmark = pytest.mark.usefixtures("small_units")


@pytest.fixture
def ledger(root: Path) -> Iterator[DiskLedger]:
    ledger = quiet(root, None)
    yield ledger
    ledger.close()


def test_the_beginning_of_a_small_object_is_held_alone(root: Path, cache: DiskCache) -> None:
    held = cache.open(REF)
    assert held.missing(Extent(0, 8)) == [HEAD]
    store(held, CONTENT, HEAD)

    assert held.read(Extent(3, 8)) == CONTENT[3:11]
    assert not path_of(root, REF).exists()
    assert unfinished(root) == []
    for other in (held, DiskCache(root).open(REF)):
        assert other.missing(HEAD) == []
        assert other.missing(REF.whole) == [Extent(at, min(20, 90 - at)) for at in (20, 40, 60, 80)]
        assert other.read(HEAD) == CONTENT[:20]


def test_the_rest_makes_it_whole_in_one_transfer(root: Path, cache: DiskCache) -> None:
    held = cache.open(REF)
    store(held, CONTENT, HEAD)
    writer = held.writer(REF.whole)
    assert writer is not None
    assert writer.extent == REST
    writer.write(memoryview(CONTENT)[20:])
    writer.commit()

    assert path_of(root, REF).read_bytes() == CONTENT
    assert not part_of(root, REF).exists()
    assert held.missing(REF.whole) == []
    assert list(verify_cache(root)) == []


def test_a_whole_of_parts_with_another_md5_is_dropped(root: Path, cache: DiskCache) -> None:
    held = cache.open(REF)
    store(held, b"x" * 90, HEAD)
    with pytest.raises(IntegrityError, match="MD5"):
        store(held, CONTENT, REST)

    assert not path_of(root, REF).exists()
    assert not part_of(root, REF).exists()
    store_all(held, REF, CONTENT)
    assert path_of(root, REF).read_bytes() == CONTENT


def test_what_comes_whole_has_no_parts(root: Path, cache: DiskCache) -> None:
    store(cache.open(REF), CONTENT, REF.whole)

    assert path_of(root, REF).read_bytes() == CONTENT
    assert not (root / "partial").exists()


def test_one_block_is_never_held_in_part(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT[:20])
    held = cache.open(ref)
    assert held.missing(Extent(5, 1)) == [ref.whole]
    store_all(held, ref, CONTENT[:20])
    assert path_of(root, ref).exists()
    assert not (root / "partial").exists()


def test_a_damaged_block_of_a_part_costs_that_block(root: Path, cache: DiskCache) -> None:
    held = cache.open(REF)
    store(held, CONTENT, Extent(0, 40))
    held.close()
    with part_of(root, REF).open("r+b") as file:
        file.write(b"?")
    held = cache.open(REF)
    with pytest.raises(CacheError, match="damaged"):
        held.read(HEAD)
    held.discard(Extent(0, 1))

    assert held.missing(Extent(0, 40)) == [HEAD]
    assert list(verify_cache(root)) == []


def test_who_waited_too_long_for_a_whole_leaves_nothing_beside_it(
    root: Path, ledger: DiskLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(root, ledger=ledger)
    held = cache.open(REF)
    whole = held.writer(REF.whole)
    assert whole is not None
    monkeypatch.setattr("idcfs.cache.objects._PATIENCE_S", 0)
    head = held.writer(HEAD)
    assert head is not None
    assert part_of(root, REF).exists()
    whole.write(memoryview(CONTENT))
    whole.commit()
    head.write(memoryview(CONTENT)[:20])
    head.commit()

    assert path_of(root, REF).read_bytes() == CONTENT
    assert not part_of(root, REF).exists()
    assert held.missing(REF.whole) == []
    held.close()


def test_a_transfer_of_the_whole_that_was_given_up_makes_way_for_a_part(
    root: Path, cache: DiskCache
) -> None:
    held = cache.open(REF)
    whole = start(held, REF.whole)
    whole.write(memoryview(CONTENT)[:50])
    store(held, CONTENT, HEAD)

    with pytest.raises(CacheError, match="another transfer"):
        whole.write(memoryview(CONTENT)[50:])
    assert unfinished(root) == []
    assert held.missing(Extent(0, 40)) == [Extent(20, 20)]


def test_parts_that_two_processes_bring_at_once_make_a_whole(root: Path, cache: DiskCache) -> None:
    head = cache.open(REF).writer(HEAD)
    assert head is not None
    other = DiskCache(root).open(REF)
    rest = other.writer(REST)
    assert rest is not None
    rest.write(memoryview(CONTENT)[20:])
    rest.commit()
    head.write(memoryview(CONTENT)[:20])
    head.commit()

    assert other.writer(REF.whole) is None
    assert path_of(root, REF).read_bytes() == CONTENT


def test_the_books_know_what_parts_occupy(
    root: Path, ledger: DiskLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With units as they are: the table is a page beside the 32 of the first block."""
    monkeypatch.setattr(units, "WHOLE_LIMIT_BYTES", 8 << 20)
    monkeypatch.setattr(units, "BLOCK_BYTES", 128 << 10)
    content = make_content(528_000)
    refs = [make_ref(content, f"{number}.dcm") for number in range(4)]
    cache = DiskCache(root, ledger=ledger)
    for ref in refs:
        store(cache.open(ref), content, Extent(0, 128 << 10))
    ledger.flush()
    assert in_books(ledger) == on_disk(root) == {REF.series: 4 * 33 * 4096}

    store(cache.open(refs[0]), content, Extent(128 << 10, 528_000 - (128 << 10)))
    ledger.flush()
    assert in_books(ledger) == on_disk(root)
    assert ledger.totals().files == 4
