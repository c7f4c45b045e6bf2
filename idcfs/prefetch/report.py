"""The report of a prefetch: a file of JSON lines, one for each file as it ends."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.descriptors import names_descriptor, open_descriptor
from idcfs.errors import UsageError
from idcfs.prefetch.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idcfs.prefetch.outcome import Ending, Outcome

    Note = Callable[[Ending], None]
    """Told of each file that ends."""


@contextmanager
def reporting(path: Path | None, outcome: Outcome) -> Iterator[Note]:
    """Give what writes the report, if there is to be one; a report that fails is a failure.

    Raises UsageError.
    """
    if path is None:
        yield lambda ending: None
        return
    started_s, report = time.monotonic(), ReportFile(path)
    try:
        yield report.note
    finally:
        report.finish(outcome, time.monotonic() - started_s)
        if report.failure is not None:
            outcome.failures.append(report.failure)


class ReportFile:
    """Writes the report, each line at once, so that a kill leaves all that ended before it.

    One thread at a time, the trio thread too: a line goes into the page cache, which takes
    microseconds. Once one cannot be written no more are, and `failure` says why.
    """

    def __init__(self, path: Path) -> None:
        """Empty the file, or make it; what /dev/stdout and the like stand for stays as it is.

        Raises UsageError.
        """
        self._path = path
        self.failure: Failure | None = None
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            opened = names_descriptor(path)
            self._fd = open_descriptor(path) if opened else os.open(path, flags, 0o666)
        except OSError as exc:
            raise UsageError(f"cannot write the report {path}: {exc.strerror}") from exc

    def note(self, ending: Ending) -> None:
        """Write the line of one file. Never raises."""
        checksum = ending.checksum
        self._write(
            {
                "series": ending.series,
                "url": ending.url,
                "path": ending.place,
                "bytes": ending.size_bytes,
                "checksum": checksum and {checksum.algorithm: checksum.value.hex()},
                "outcome": ending.told,
                "reason": ending.reason,
            }
        )

    def finish(self, outcome: Outcome, elapsed_s: float) -> None:
        """Write the last line, which sums up, and close the file. Never raises."""
        figures = {
            "files": outcome.total_files,
            "bytes": outcome.total_bytes,
            "fetched_files": outcome.fetched_files,
            "fetched_bytes": outcome.fetched_bytes,
            "replaced_files": outcome.replaced_files,
            "copied_files": outcome.copied_files,
            "copied_bytes": outcome.copied_bytes,
            "present_files": outcome.present_files,
            "present_bytes": outcome.present_bytes,
            "failed_files": outcome.failed_files,
            "untried_files": outcome.untried_files,
            "commands_done": outcome.commands_done,
            "commands_failed": outcome.commands_failed,
            "commands_left": outcome.commands_left,
            "skipped_series": outcome.skipped_series,
            "complete": outcome.is_complete,
            "interrupted": outcome.interrupted,
            "gave_up": outcome.gave_up,
            "elapsed_s": round(elapsed_s, 3),
        }
        self._write({"summary": figures})
        os.close(self._fd)

    def _write(self, line: dict[str, object]) -> None:
        if self.failure is not None:
            return
        # JSON's own escapes: a name that is not UTF-8 has surrogates, which could not be encoded.
        content = json.dumps(line).encode("ascii") + b"\n"
        try:
            while content:
                content = content[os.write(self._fd, content) :]
        except OSError as exc:
            self.failure = Failure(str(self._path), f"cannot write the report: {exc.strerror}")
