"""What the index says of single series, told by a child process on demand.

A layout holds what a mount needs all the time. The rest (licences, descriptions, dates)
is wanted now and then, by whoever asks for extended attributes; DuckDB answers in some
50 ms, in a process of its own (`python -m idcfs.catalog.facts`) that ends when nobody has
asked for a while. The parent writes a row's number, the child a JSON object, a line each.
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

    import duckdb

_IDLE_S = 60.0
"""How long a child waits for the next question. It holds some 100 MB meanwhile."""

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

    def facts(self, row: int) -> Mapping[str, str]:
        """Return the columns of a series by its index row, without those that are NULL.

        Blocks. Raises IndexFileError if the index cannot be read, or is another than when
        this object was made.
        """
        with self._one_question:
            # A child that was idle may end just when it is asked: once more with another.
            answer = self._ask(row) or self._ask(row)
        if not answer:
            raise IndexFileError(f"the process that reads {self._index.path} has died")
        told = json.loads(answer)
        if "error" in told:
            raise IndexFileError(told["error"])
        facts: dict[str, str] = told["facts"]
        return facts

    def _ask(self, row: int) -> str:
        """Return the child's answer, "" if there was none."""
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
            self._child.stdin.write(f"{row}\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
        except OSError:
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


def main() -> None:
    """Answer until standard input ends or is silent for long."""
    path, fingerprint = sys.argv[1:]
    try:
        index = Index.open(Path(path))
        if index.fingerprint != fingerprint:
            raise IndexFileError(f"{path} is not the index any more that was mounted")
        with connect(index) as connection:
            for row in _questions():
                _tell(facts=_find(connection, row))
    except IdcfsError as exc:
        for _ in _questions():
            _tell(error=str(exc))


def _questions() -> Iterator[int]:
    while select.select([sys.stdin], [], [], _IDLE_S)[0] and (line := sys.stdin.readline()):
        yield int(line)


def _find(connection: duckdb.DuckDBPyConnection, row: int) -> dict[str, str]:
    for view in ("series", "all_series"):  # the second one sorts all earlier releases
        result = connection.execute(f"SELECT * FROM {quote_name(view)} WHERE idcfs_row = ?", [row])
        names = [str(column[0]) for column in result.description or ()]
        if (found := result.fetchone()) is not None:
            values = zip(names, found, strict=True)
            return {name: str(value) for name, value in values if value is not None}
    return {}


def _tell(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + os.linesep)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
