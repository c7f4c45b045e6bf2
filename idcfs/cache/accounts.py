"""The books on disk: a SQLite database that many processes share, made anew when it is lost.

    ledger/accounts.sqlite   what each series occupies, when it was used, who has reserved
    ledger/door              locked shared for a transaction, alone to make the books anew

SQLite keeps processes apart and survives their death and a power cut (`synchronous=FULL`;
there is one commit for some 64 MiB or a few seconds, so that costs nothing). A database
that is missing, damaged, or was replaced under us, is noticed at the next transaction and
made anew from the files in the cache.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from idcfs.cache.book import FORMAT, SCHEMA, Book
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_BUSY_S = 60.0
"""How long to wait for another process's transaction, or for it to make the books anew
(a million files take some ten seconds)."""

_POLL_S = 0.01

_LOG_PAGES = 128
"""Of 4 KiB, after which SQLite empties its log into the database, instead of 1,000: the log keeps
its size, which is room on the disk that no limit counts."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""What SQLite says of a file that is no such database; SQLITE_ERROR is a missing table."""


class _DamagedError(Exception):
    """The database is not there, or not one."""


class Accounts:
    """The books of one cache. One thread at a time.

    `fill` counts what is in the cache into empty books. Raises CacheError.
    """

    def __init__(self, directory: Path, *, fill: Callable[[Book], None]) -> None:
        self._directory = directory
        self._path = directory / "accounts.sqlite"
        self._fill = fill
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self.is_waiting = False
        """Whether a transaction waits for another process, which may be making the books."""

    @contextmanager
    def transaction(self) -> Iterator[Book]:
        """Read and change the books, all or nothing. Not to be nested.

        Raises CacheError when they can be neither used nor made anew; what the block
        changed is then not written.
        """
        with self._entered() as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield Book(connection)
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                self._roll_back(connection)
                if _is_damage(exc):
                    self._set_aside()
                raise CacheError(f"cannot keep the books of the cache: {exc}") from exc
            except BaseException:
                self._roll_back(connection)
                raise

    @contextmanager
    def _entered(self) -> Iterator[sqlite3.Connection]:
        with self._door(fcntl.LOCK_SH) as door:
            yield self._usable(door)

    def close(self) -> None:
        """Close the database. Never raises."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _usable(self, door: int) -> sqlite3.Connection:
        """Return a connection to the books that are there now; make them anew if need be."""
        with suppress(_DamagedError):
            return self._connect()
        with self._waiting():
            _lock(door, fcntl.LOCK_EX)
        try:
            return self._connect()  # another process may have been quicker
        except _DamagedError as exc:
            logger.info("making the books of the cache anew: %s", exc)
        try:
            self._make_anew()
            return self._connect()
        except (sqlite3.Error, _DamagedError, OSError) as exc:
            raise CacheError(f"cannot make the books of the cache: {exc}") from exc

    def _connect(self) -> sqlite3.Connection:
        try:
            status = self._path.stat()
        except OSError as exc:
            self.close()
            raise _DamagedError("there are none") from exc
        file = (status.st_dev, status.st_ino)
        if self._connection is None or file != self._file:
            self.close()
            self._connection, self._file = _open(self._path), file
        return self._connection

    def _make_anew(self) -> None:
        self.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).unlink()
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
            self._fill(Book(connection))
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _set_aside(self) -> None:
        """Take damaged books away, so that the next transaction makes them anew."""
        self.close()
        with suppress(OSError):
            self._path.unlink()

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextmanager
    def _door(self, how: int) -> Iterator[int]:
        # Opened anew each time: somebody may have removed the directory meanwhile.
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._directory / "door", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise CacheError(f"cannot use {self._directory}: {exc.strerror}") from exc
        try:
            with self._waiting():
                _lock(fd, how)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes, and threads, out of a block. Raises CacheError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise CacheError(f"cannot use {path}: {exc.strerror}") from exc
    try:
        _lock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _open(path: Path) -> sqlite3.Connection:
    connection = None
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == FORMAT:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if fault == "ok":
                return connection
            raise _DamagedError(fault)
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        if _is_damage(exc):
            raise _DamagedError(str(exc)) from exc
        raise CacheError(f"cannot open the books of the cache, {path}: {exc}") from exc
    connection.close()
    if version > FORMAT:
        raise CacheError(
            f"{path} was written by a newer idcfs; upgrade, or choose another --cache-dir"
        )
    raise _DamagedError("they are not finished")


def _is_damage(exc: sqlite3.Error) -> bool:
    code = getattr(exc, "sqlite_errorcode", None)  # absent on errors of the module itself
    return code is not None and code & 0xFF in _DAMAGED


def _lock(fd: int, how: int) -> None:
    end = time.monotonic() + _BUSY_S
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise CacheError("another process keeps the books of the cache locked") from None
            time.sleep(_POLL_S)
        except OSError as exc:
            raise CacheError(f"cannot lock the books of the cache: {exc.strerror}") from exc
        else:
            return
