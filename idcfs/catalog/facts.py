"""What the index says of single series, told by a child process on demand.

A layout holds what a mount needs all the time. The rest (licences, descriptions, dates)
is wanted now and then, by whoever asks for extended attributes; DuckDB answers in some
50 ms, for one row or for hundreds that stand together, in a process of its own
(`python -m idcfs.catalog.facts`) that ends when nobody has asked for a while. The parent
writes the first row and the one after the last, the child a JSON object, a line each.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.catalog.engine import connect, quote_name
from idcfs.catalog.index import Index
from idcfs.catalog.layouts import child_command
from idcfs.errors import IdcfsError, IndexFileError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO

    import duckdb

_IDLE_S = 60.0
"""How long a child waits for the next question. It holds some 100 MB meanwhile."""

_PATIENCE_S = 60.0
"""How long an answer is waited for: far longer than it takes on any disk that works."""

_SERIES_KEYS = frozenset({"SeriesInstanceUID", "crdc_series_uuid"})


def common_columns(template: str, columns: frozenset[str]) -> list[frozenset[str]]:
    """Return what all series below a directory have in common, for each level from the root.

    That is what the directory's path is made of, and what follows from it: all `columns`
    from a series, and from a study the collection (which holds for every study of IDC
    v25; the patient does not follow, one study has two). Needs no index, since the template
    has been parsed before.
    """
    longest_first = sorted(columns | _SERIES_KEYS, key=len, reverse=True)
    variable = re.compile("%(" + "|".join(map(re.escape, longest_first)) + ")")
    found: set[str] = set()
    levels = [frozenset(found)]
    for component in filter(None, template.split("/")):
        found |= set(variable.findall(component))
        if found & _SERIES_KEYS:
            found |= columns
        elif "StudyInstanceUID" in found:
            found.add("collection_id")
        levels.append(frozenset(found))
    return levels


class SeriesFacts:
    """Answers from a child process, which is started when it is needed. Any thread."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._child: subprocess.Popen[str] | None = None
        self._one_question = threading.Lock()

    def facts(self, rows: range) -> Mapping[int, Mapping[str, str]]:
        """Return the columns of series by their index rows, without those that are NULL.

        Rows that are not there are left out. Blocks for a minute at most. Raises
        IndexFileError if the index cannot be read, or is another than when this object was
        made.
        """
        try:
            with self._one_question:
                # A child that was idle may end just when it is asked: once more with another.
                answer = self._ask(rows) or self._ask(rows)
        except OSError as exc:
            raise IndexFileError(
                f"cannot start a process to read {self._index.path}: {exc.strerror}"
            ) from exc
        if not answer:
            raise IndexFileError(f"the process that reads {self._index.path} has died")
        told = json.loads(answer)
        if "error" in told:
            raise IndexFileError(told["error"])
        return _unpack(told["columns"], told["rows"])

    def _ask(self, rows: range) -> str:
        """Return the child's answer, "" if there was none.

        Raises OSError if no child can be started, IndexFileError if it says nothing.
        """
        if self._child is None:
            command, environment = child_command("idcfs.catalog.facts")
            self._child = subprocess.Popen(
                [*command, str(self._index.path), self._index.fingerprint],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for the mount
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        answer = ""
        try:
            self._child.stdin.write(f"{rows.start} {rows.stop}\n")
            self._child.stdin.flush()
            if not _speaks(self._child.stdout):
                self._end_child()
                raise IndexFileError(f"{self._index.path} could not be read in {_PATIENCE_S:.0f} s")
            answer = self._child.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            self._end_child()
        return answer

    def close(self) -> None:
        """End the child. Nothing may be asked afterwards."""
        if self._one_question.acquire(timeout=1):
            self._end_child()
        elif (child := self._child) is not None:
            child.kill()

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()  # it has nothing to lose
            child.communicate()


def _speaks(stdout: IO[str]) -> bool:
    """Wait for an answer to begin; tell whether it did."""
    waiting = select.poll()  # select cannot take the numbers that a busy daemon's files have
    waiting.register(stdout, select.POLLIN)
    return bool(waiting.poll(_PATIENCE_S * 1000))


def _unpack(columns: list[str], rows: list[list[str | None]]) -> dict[int, dict[str, str]]:
    """Return rows as mappings. Values that many have in common are kept once."""
    kept: dict[str, str] = {}
    return {
        int(number or 0): {
            column: kept.setdefault(value, value)
            for column, value in zip(columns, values, strict=True)
            if value is not None
        }
        for number, *values in rows
    }


def main() -> None:
    """Answer until standard input ends or is silent for long."""
    path, fingerprint = sys.argv[1:]
    try:
        index = Index.open(Path(path))
        if index.fingerprint != fingerprint:
            raise IndexFileError(f"{path} is not the index any more that was mounted")
        with connect(index) as connection:
            for rows in _questions():
                columns, found = _find(connection, rows)
                _tell(columns=columns, rows=found)
    except IdcfsError as exc:
        for _ in _questions():
            _tell(error=str(exc))


def _questions() -> Iterator[range]:
    while select.select([sys.stdin], [], [], _IDLE_S)[0] and (line := sys.stdin.readline()):
        yield range(*map(int, line.split()))


def _find(
    connection: duckdb.DuckDBPyConnection, rows: range
) -> tuple[list[str], list[list[str | None]]]:
    """Return the names of the columns, and each row as text, its number before it."""
    for view in ("series", "all_series"):  # the second has more, and sorts all earlier releases
        result = connection.execute(
            f"SELECT idcfs_row, * FROM {quote_name(view)} "
            f"WHERE idcfs_row BETWEEN {rows.start} AND {rows.stop - 1}"
        )
        columns = [str(column[0]) for column in result.description or ()][1:]
        found = result.fetchall()
        if len(found) == len(rows):
            break
    return columns, [[None if each is None else str(each) for each in row] for row in found]


def _tell(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + os.linesep)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
