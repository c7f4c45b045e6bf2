"""Ledgers over real files, and what tests do with them again and again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from idcfs.cache.book import Book
from idcfs.cache.disk_ledger import DiskLedger
from idcfs.cache.inventory import series_on_disk
from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 4096
START_S = 1_700_000_000.0


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


def name(number: int) -> SeriesUUID:
    return SeriesUUID(f"{number:08x}-0000-4000-8000-000000000000")


def quiet(root: Path, size: int | str | None, **options: Any) -> DiskLedger:  # noqa: ANN401
    """Return a ledger that writes its books only when told, and does not wait for room."""
    settings: dict[str, Any] = {"min_free": "0", "flush_s": None, "patience_s": 0.0, **options}
    return DiskLedger(root, cache_size="none" if size is None else str(size), **settings)


def die(ledger: DiskLedger) -> None:
    """Leave a ledger as the death of its process would: files closed, nothing written."""
    ledger._uses.close()
    ledger._accounts.close()


def store(
    root: Path, ledger: DiskLedger, series: SeriesUUID, size_bytes: int, *, file: str = "a.dcm"
) -> int:
    """Store a file as the cache does; return what it occupies."""
    path = root / "objects" / series[:2] / series / file
    ledger.hold(series)
    try:
        reservation = ledger.reserve(size_bytes)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size_bytes))
        occupied = path.stat().st_blocks * 512
        reservation.settle(series, occupied, 1)
        ledger.touch(series)
    finally:
        ledger.let_go(series)
    return occupied


def on_disk(root: Path) -> dict[SeriesUUID, int]:
    return {series: size_bytes for series, size_bytes, _ in series_on_disk(root)}


def booked_and_reserved(root: Path) -> int:
    """Return what the books hold for stored or reserved, with no ledger told to look."""
    with closing(sqlite3.connect(root / "ledger" / "accounts.sqlite")) as connection:
        book = Book(connection)
        return book.totals().bytes + book.reserved_bytes()


def in_books(ledger: DiskLedger) -> dict[SeriesUUID, int]:
    return {account.series: account.bytes for account in ledger.accounts()}
