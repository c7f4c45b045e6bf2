"""One download among all who want the same bytes, and nobody waits for ever."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, objects
from idcfs.cache.claims import Claims
from idcfs.errors import CacheError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import store

if TYPE_CHECKING:
    from pathlib import Path

CONTENT, LARGE = make_content(90), make_content(150)
REF, LARGE_REF = make_ref(CONTENT), make_ref(LARGE, "large.dcm")


def test_a_claim_excludes_others_in_and_out_of_the_process(tmp_path: Path) -> None:
    here, there = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")

    assert here.claim("a", 2, 3) == 3
    assert here.claim("a", 2, 1) == there.claim("a", 2, 1) == 0
    assert here.claim("a", 4, 1) == there.claim("a", 4, 1) == 0
    assert there.claim("b", 2, 3) == 3
    assert there.claim("a", 0, 5) == 1  # the first alone, where another has some of the rest
    assert here.claim("a", 1, 5) == 1
    here.release("a", 2, 3)
    assert there.claim("a", 2, 3) == 3
    here.close()
    there.close()
    assert (tmp_path / "claims").stat().st_size == 0


def test_the_claims_of_the_dead_are_free(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        Claims(tmp_path / "claims").claim("a", 0, 1)
        os._exit(0)
    os.waitpid(child, 0)

    assert Claims(tmp_path / "claims").claim("a", 0, 1) == 1


def test_where_claims_cannot_be_kept_all_are_granted(tmp_path: Path) -> None:
    here, there = Claims(tmp_path / "none" / "claims"), Claims(tmp_path / "none" / "claims")

    assert here.claim("a", 0, 3) == there.claim("a", 0, 3) == 3
    here.release("a", 0, 3)


def test_who_waits_finds_what_the_other_has_stored(root: Path, cache: DiskCache) -> None:
    other = DiskCache(root)
    writer = other.open(REF).writer(REF.whole)
    assert writer is not None
    held, got = cache.open(REF), []
    thread = threading.Thread(target=lambda: got.append(held.writer(REF.whole)))
    thread.start()
    writer.write(memoryview(CONTENT))
    writer.commit()
    thread.join()

    assert got == [None]
    assert held.read(REF.whole) == CONTENT
    other.close()


@pytest.mark.usefixtures("small_units")
def test_who_waits_goes_on_when_the_other_gives_up(root: Path, cache: DiskCache) -> None:
    other = DiskCache(root)
    writer = other.open(LARGE_REF).writer(Extent(0, 80))
    assert writer is not None
    held = cache.open(LARGE_REF)
    thread = threading.Thread(target=store, args=(held, LARGE, Extent(40, 40)))
    thread.start()
    writer.abort()
    thread.join()

    assert held.missing(LARGE_REF.whole) == [Extent(0, 40), Extent(80, 40), Extent(120, 30)]
    other.close()


@pytest.mark.usefixtures("small_units")
def test_a_writer_takes_what_nobody_else_has(root: Path, cache: DiskCache) -> None:
    other = DiskCache(root)
    writer = other.open(LARGE_REF).writer(Extent(80, 40))
    assert writer is not None

    first = cache.open(LARGE_REF).writer(LARGE_REF.whole)

    assert first is not None
    assert first.extent == Extent(0, 40)
    other.close()


def test_waiting_ends_when_nobody_wants_it_any_more(root: Path, cache: DiskCache) -> None:
    other = DiskCache(root)
    writer = other.open(REF).writer(REF.whole)
    asked: list[int] = []

    def given_up() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(CacheError, match="nobody waits"):
        cache.open(REF).writer(REF.whole, given_up)

    assert writer is not None
    writer.abort()
    other.close()


def test_a_transfer_that_stalls_does_not_hold_up_others(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PATIENCE_S", 0.05)
    other = DiskCache(root)
    stalled = other.open(REF).writer(REF.whole)
    assert stalled is not None
    began_s = time.monotonic()

    held = cache.open(REF)
    store(held, CONTENT, REF.whole)

    assert time.monotonic() - began_s < 5
    assert held.read(REF.whole) == CONTENT
    stalled.write(memoryview(CONTENT))
    stalled.commit()  # late, and harmless
    assert cache.open(REF).read(REF.whole) == CONTENT
    other.close()


@pytest.mark.usefixtures("small_units")
def test_two_that_write_the_same_unit_do_no_harm(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PATIENCE_S", 0.0)
    other = DiskCache(root)
    here, there = cache.open(LARGE_REF), other.open(LARGE_REF)
    late = there.writer(LARGE_REF.whole)
    assert late is not None
    late.write(memoryview(LARGE)[:100])

    for unit in here.missing(LARGE_REF.whole):
        store(here, LARGE, unit)
    late.write(memoryview(LARGE)[100:])
    late.commit()

    assert there.missing(LARGE_REF.whole) == []
    assert here.read(LARGE_REF.whole) == there.read(LARGE_REF.whole) == LARGE
    other.close()
