"""Several ledgers on one directory, deaths included, against a model of dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from idcfs.errors import CacheError
from tests.unit.cache.ledgers import (
    BLOCK,
    Clock,
    booked_and_reserved,
    die,
    in_books,
    name,
    on_disk,
    quiet,
    store,
)

if TYPE_CHECKING:
    from idcfs.cache.disk_ledger import DiskLedger
    from idcfs.model import SeriesUUID

LIMIT = 64 * BLOCK
LEDGERS = 3
numbers = st.integers(0, LEDGERS - 1)
series_names = st.integers(0, 11).map(name)


class LedgerMachine(RuleBasedStateMachine):
    """What is stored stays within the limit; what is held or pinned stays at all."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="idcfs-ledger-")) / "cache"
        self.clock = Clock()
        self.ledgers = [self._new() for _ in range(LEDGERS)]
        self.held: list[Counter[SeriesUUID]] = [Counter() for _ in range(LEDGERS)]
        self.pinned: set[SeriesUUID] = set()
        self.kept: dict[SeriesUUID, int] = {}
        """What must be there: stored or found while it was held or pinned."""
        self.files = 0

    def _new(self) -> DiskLedger:
        return quiet(self.root, LIMIT, clock=self.clock)

    @initialize()
    def begin(self) -> None:
        self.ledgers[0].flush()

    @rule(which=numbers, series=series_names, blocks=st.integers(0, 20))
    def store(self, which: int, series: SeriesUUID, blocks: int) -> None:
        self.files += 1
        before = on_disk(self.root).get(series, 0)
        try:
            occupied = store(
                self.root, self.ledgers[which], series, blocks * BLOCK, file=f"{self.files}.dcm"
            )
        except CacheError:
            return
        assert on_disk(self.root)[series] == before + occupied or not blocks
        self._expect()

    @rule(which=numbers, series=series_names)
    def store_nothing(self, which: int, series: SeriesUUID) -> None:
        try:
            self.ledgers[which].reserve(5 * BLOCK).release()
        except CacheError:
            return

    @rule(which=numbers, series=series_names)
    def use(self, which: int, series: SeriesUUID) -> None:
        self.ledgers[which].touch(series)

    @rule(which=numbers, series=series_names)
    def hold(self, which: int, series: SeriesUUID) -> None:
        self.ledgers[which].hold(series)
        self.held[which][series] += 1
        self._expect()

    @precondition(lambda self: any(self.held))
    @rule(which=numbers)
    def let_go(self, which: int) -> None:
        if self.held[which]:
            series = next(iter(self.held[which]))
            self.ledgers[which].let_go(series)
            self.held[which] -= Counter([series])
            self._expect()

    @rule(which=numbers, series=series_names)
    def pin(self, which: int, series: SeriesUUID) -> None:
        self.ledgers[which].pin(series)
        self.pinned.add(series)
        self._expect()

    @rule(which=numbers, series=series_names)
    def unpin(self, which: int, series: SeriesUUID) -> None:
        self.ledgers[which].pins.remove(series)
        self.pinned.discard(series)
        self._expect()

    @rule(which=numbers, series=series_names)
    def discard(self, which: int, series: SeriesUUID) -> None:
        ledger = self.ledgers[which]
        ledger.hold(series)
        for path in (self.root / "objects" / series[:2] / series).glob("*"):
            occupied = path.stat().st_blocks * 512
            path.unlink()
            ledger.dropped(series, occupied, 1)
            break
        ledger.let_go(series)
        self._expect()

    @rule(which=numbers, series=series_names)
    def evict(self, which: int, series: SeriesUUID) -> None:
        self.ledgers[which].evict([series])

    @rule(which=numbers)
    def flush(self, which: int) -> None:
        self.ledgers[which].flush()

    @rule(which=numbers, reserved=st.booleans())
    def kill(self, which: int, reserved: bool) -> None:
        if reserved:
            with suppress(CacheError):
                self.ledgers[which].reserve(3 * BLOCK)
        die(self.ledgers[which])
        self._replace(which)

    @rule(which=numbers)
    def restart(self, which: int) -> None:
        self.ledgers[which].close()
        self._replace(which)

    @rule()
    def lose_the_books(self) -> None:
        (self.root / "ledger" / "accounts.sqlite").unlink(missing_ok=True)

    @rule(seconds=st.sampled_from([1.0, 700.0, 86_400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule()
    def the_books_are_right_when_all_have_told(self) -> None:
        for _ in range(2):
            for ledger in self.ledgers:
                ledger.flush()
        books, disk = in_books(self.ledgers[0]), on_disk(self.root)
        in_use = {series for held in self.held for series in held}
        for series in (books.keys() | disk.keys()) - in_use:
            assert books.get(series, 0) == disk.get(series, 0), series

    @invariant()
    def the_limit_is_kept(self) -> None:
        assert sum(on_disk(self.root).values()) <= LIMIT

    @invariant()
    def nothing_is_there_that_the_books_do_not_know_or_reserve(self) -> None:
        if (self.root / "ledger" / "accounts.sqlite").exists():
            assert sum(on_disk(self.root).values()) <= booked_and_reserved(self.root)

    @invariant()
    def what_must_stay_is_there(self) -> None:
        disk = on_disk(self.root)
        for series, size_bytes in self.kept.items():
            assert disk.get(series, 0) >= size_bytes, series

    def _replace(self, which: int) -> None:
        self.held[which].clear()
        self.ledgers[which] = self._new()
        self._expect()

    def _expect(self) -> None:
        disk = on_disk(self.root)
        must_stay = self.pinned.union(*self.held)
        self.kept = {series: disk.get(series, 0) for series in must_stay}

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        shutil.rmtree(self.root.parent)


@pytest.fixture(autouse=True)
def large_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is taken in pieces of 8 blocks, so that much is stored without asking."""
    monkeypatch.setattr("idcfs.cache.room.PIECE_SHARE", 8)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class _LongMachine(LedgerMachine):
    """The same for longer."""


TestLedgerAtLength = pytest.mark.slow(_LongMachine.TestCase)
TestLedgerAtLength.settings = settings(
    max_examples=300,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
