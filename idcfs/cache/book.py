"""What the books say, and the SQL that says it.

Of each series: what it occupies on disk, when it was first and last used, and its place
among those that may be evicted. There are two queues, as in a segmented LRU: what came in
is on probation; what is used again later is protected. Only when nothing on probation
can go does a protected series go; so one pass over a hundred thousand series throws out
nothing that is read every day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator

FORMAT = 1
"""Goes up when the tables change in a way that an older idcfs would get wrong."""

PROTECTED_SHARE = 0.8
"""So much of the limit may be protected; beyond it the longest unused go back on probation,
so that what is new always has room to prove itself."""

PROMOTED_AFTER_S = 600.0
"""A use so long after the first is another use: a viewer that opens and closes all slices
of a series, or a copy that is interrupted and goes on, is one."""

SCHEMA = """
CREATE TABLE series (
    uuid TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    files INTEGER NOT NULL,
    first_used REAL NOT NULL,
    last_used REAL NOT NULL,
    protected INTEGER NOT NULL DEFAULT 0,
    queued REAL NOT NULL,
    recount INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX series_by_turn ON series (protected, queued, uuid);
CREATE INDEX series_to_recount ON series (uuid) WHERE recount;
CREATE TABLE totals (series INTEGER, files INTEGER, bytes INTEGER, protected INTEGER);
INSERT INTO totals VALUES (0, 0, 0, 0);
CREATE TRIGGER series_in AFTER INSERT ON series BEGIN
    UPDATE totals SET series = series + 1, files = files + new.files,
        bytes = bytes + new.bytes, protected = protected + new.bytes * new.protected;
END;
CREATE TRIGGER series_out AFTER DELETE ON series BEGIN
    UPDATE totals SET series = series - 1, files = files - old.files,
        bytes = bytes - old.bytes, protected = protected - old.bytes * old.protected;
END;
CREATE TRIGGER series_changed AFTER UPDATE OF bytes, files, protected ON series BEGIN
    UPDATE totals SET files = files + new.files - old.files,
        bytes = bytes + new.bytes - old.bytes,
        protected = protected + new.bytes * new.protected - old.bytes * old.protected;
END;
CREATE TABLE members (name TEXT PRIMARY KEY, reserved INTEGER NOT NULL, boot TEXT NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER);
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """What all series together hold."""

    series: int
    files: int
    bytes: int
    protected_bytes: int


@dataclass(frozen=True, slots=True)
class Account:
    """What the books say of one series. Times are in seconds since the epoch."""

    series: SeriesUUID
    bytes: int
    files: int
    first_used_s: float
    last_used_s: float
    protected: bool


@dataclass(frozen=True, slots=True)
class Hits:
    """How often the cache had what was wanted, since its books were made."""

    opened: int
    """Objects opened, by all processes."""
    stored: int
    """Objects of which something had to be fetched first."""

    @property
    def ratio(self) -> float | None:
        """The share of those opened that were there; None if none was opened."""
        return max(1 - self.stored / self.opened, 0.0) if self.opened else None


@dataclass(frozen=True, slots=True)
class Victim:
    """A series that may have to go, and its place in the order."""

    series: SeriesUUID
    bytes: int
    protected: int
    queued_s: float


class Book:
    """The books inside one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute

    def totals(self) -> Totals:
        """Return the sums over all series."""
        return Totals(*self._run("SELECT series, files, bytes, protected FROM totals").fetchone())

    def reserved_bytes(self) -> int:
        """Return what all processes together have reserved and not used yet."""
        (reserved,) = self._run("SELECT coalesce(sum(reserved), 0) FROM members").fetchone()
        return int(reserved)

    def members(self) -> dict[str, str]:
        """Return the processes that have reserved something, and the boot they ran in."""
        return dict(self._run("SELECT name, boot FROM members").fetchall())

    def set_reserved(self, member: str, size_bytes: int, boot: str) -> None:
        """Write down what a process has reserved."""
        self._run(
            "INSERT INTO members VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET reserved = excluded.reserved "
            "WHERE reserved <> excluded.reserved",  # what changes nothing costs no fsync
            (member, size_bytes, boot),
        )

    def remove_member(self, member: str) -> None:
        """Forget a process and what it has reserved."""
        self._run("DELETE FROM members WHERE name = ?", (member,))

    def add(self, series: SeriesUUID, size_bytes: int, files: int, now_s: float) -> None:
        """Count more, or less, as a series'.

        Less than nothing, since who stored it has not told of it yet, is to be recounted. Until
        a series is, nothing is taken off: it may have gone before the last count, or never have
        been in these books.
        """
        self._run(
            "INSERT INTO series (uuid, bytes, files, first_used, last_used, queued, recount) "
            "VALUES (?1, max(?2, 0), max(?3, 0), ?4, ?4, ?4, ?2 < 0 OR ?3 < 0) "
            "ON CONFLICT (uuid) DO UPDATE SET "
            "recount = recount OR bytes + ?2 < 0 OR files + ?3 < 0, "
            "bytes = max(bytes + CASE WHEN recount THEN max(?2, 0) ELSE ?2 END, 0), "
            "files = max(files + CASE WHEN recount THEN max(?3, 0) ELSE ?3 END, 0)",
            (series, size_bytes, files, now_s),
        )

    def set_count(self, series: SeriesUUID, size_bytes: int, files: int, used_s: float) -> None:
        """Write down what a series holds by count; nothing at all takes it off the books.

        `used_s` is when it was used if the books do not know.
        """
        if not size_bytes and not files:
            self.remove([series])
            return
        self._run(
            "INSERT INTO series (uuid, bytes, files, first_used, last_used, queued) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (uuid) DO UPDATE SET "
            "bytes = excluded.bytes, files = excluded.files, recount = 0",
            (series, size_bytes, files, used_s, used_s, used_s),
        )

    def touch(self, series: SeriesUUID, at_s: float) -> None:
        """Write down a use; promote the series if the first was long enough before."""
        self._run(
            "UPDATE series SET last_used = max(last_used, ?1), queued = max(queued, ?1), "
            "protected = protected OR ?1 - first_used >= ?3 WHERE uuid = ?2",
            (at_s, series, PROMOTED_AFTER_S),
        )

    def demote(self, allowed_bytes: int, now_s: float) -> None:
        """Put the longest unused protected series back on probation, beyond what is allowed."""
        excess = self.totals().protected_bytes - allowed_bytes
        if excess <= 0:
            return
        rows = self._run("SELECT uuid, bytes FROM series WHERE protected = 1 ORDER BY queued")
        for uuid, size_bytes in rows.fetchall():
            if excess <= 0:
                break
            self._run("UPDATE series SET protected = 0, queued = ? WHERE uuid = ?", (now_s, uuid))
            excess -= size_bytes

    def remove(self, series: Collection[SeriesUUID]) -> None:
        """Take series off the books."""
        for uuid in series:
            self._run("DELETE FROM series WHERE uuid = ?", (uuid,))

    def victims(self, at_most: int, after: Victim | None = None) -> list[Victim]:
        """Return series in the order in which they should go, from the one behind `after`."""
        rows = self._run(
            "SELECT uuid, bytes, protected, queued FROM series "
            "WHERE (protected, queued, uuid) > (?, ?, ?) "
            "ORDER BY protected, queued, uuid LIMIT ?",
            (*((after.protected, after.queued_s, after.series) if after else (-1, 0, "")), at_most),
        )
        return [
            Victim(SeriesUUID(uuid), size_bytes, protected, queued)
            for uuid, size_bytes, protected, queued in rows.fetchall()
        ]

    def want_recount(self, series: SeriesUUID, now_s: float) -> None:
        """Note that a series may hold less than was counted, because it was in use."""
        self.add(series, 0, 0, now_s)
        self._run("UPDATE series SET recount = 1 WHERE uuid = ?", (series,))

    def to_recount(self, at_most: int, after: SeriesUUID | None = None) -> list[SeriesUUID]:
        """Return series whose count may be wrong: by name, from the one behind `after`."""
        rows = self._run(
            "SELECT uuid FROM series WHERE recount AND uuid > ? ORDER BY uuid LIMIT ?",
            (after or "", at_most),
        )
        return [SeriesUUID(uuid) for (uuid,) in rows.fetchall()]

    def accounts(self) -> Iterator[Account]:
        """Return what the books say of each series, the longest unused first."""
        rows = self._run(
            "SELECT uuid, bytes, files, first_used, last_used, protected FROM series "
            "ORDER BY last_used"
        )
        for uuid, size_bytes, files, first_s, last_s, protected in rows.fetchall():
            yield Account(
                SeriesUUID(uuid), size_bytes, files, first_s, last_s, protected=bool(protected)
            )

    def count(self, name: str, by: int) -> None:
        """Add to a counter."""
        if not by:
            return
        self._run(
            "INSERT INTO counters VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, by),
        )

    def counters(self) -> dict[str, int]:
        """Return all counters."""
        return dict(self._run("SELECT name, value FROM counters").fetchall())
