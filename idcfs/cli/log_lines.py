"""How a line of the log looks: on a terminal and in files, and for systemd's journal."""

from __future__ import annotations

import logging
import os
import sys

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Those of syslog, which sd-daemon(3) wants in front of a line. What is less is 7."""


def file_formatter() -> logging.Formatter:
    """Return what writes time, level, place and message."""
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def stderr_formatter() -> logging.Formatter:
    """Return what suits standard error: the journal notes the time itself, and asks for a level."""
    return _JournalFormatter("%(name)s: %(message)s") if _is_journal() else file_formatter()


class _JournalFormatter(logging.Formatter):
    """Writes the priority before each line, of a traceback too."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((each for level, each in _PRIORITIES if record.levelno >= level), 7)
        lines = super().format(record).splitlines()
        return "\n".join(f"<{priority}>{line}" for line in lines)


def _is_journal() -> bool:
    """Tell whether standard error is the stream that systemd says it connected to its journal."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
