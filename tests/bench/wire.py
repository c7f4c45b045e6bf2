"""What went over a link, read off nginx's access log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LOG_FORMAT: Final = "$request_method $status $bytes_sent $request_uri"
"""`$bytes_sent` counts the answer with its head, as far as it was sent."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Requests, and the bytes of their answers."""

    requests: int = 0
    size_bytes: int = 0


def read_log(lines: Iterable[str]) -> Wire:
    """Add up the lines of a log in LOG_FORMAT. Raises ValueError for any other line."""
    requests = size_bytes = 0
    for line in lines:
        method, status, sent, _ = line.split(" ", 3)
        if not (method.isalpha() and status.isdecimal()):
            raise ValueError(f"not a line of the access log: {line!r}")
        requests += 1
        size_bytes += int(sent)
    return Wire(requests, size_bytes)
