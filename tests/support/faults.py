"""What a fault proxy sees of a request, and what it can do to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Request:
    """What a predicate sees of a request."""

    method: str
    path: str
    """Unquoted, without the query: `/<bucket>/<key>`."""
    query: str
    range: str | None
    """The Range header, such as `bytes=0-1023`."""

    @property
    def is_object(self) -> bool:
        """Whether one object is asked for, rather than a listing."""
        return self.path.count("/") > 1 and self.path[-1] != "/"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with an S3 error without asking the server."""

    status: int
    code: str = "InternalError"
    headers: tuple[tuple[str, str], ...] = ()


NOT_FOUND = Answer(404, "NoSuchKey")
FORBIDDEN = Answer(403, "AccessDenied")
SERVER_ERROR = Answer(500, "InternalError")
SLOW_DOWN = Answer(503, "SlowDown", (("Retry-After", "0"),))


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before the server is asked, then let the answer pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Send so many bytes of the body, then nothing, with the connection open."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """Send so many bytes of the body, then reset the connection (RST)."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """Send so many bytes of the body, then close in order, though more were promised."""

    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Shorten:
    """Leave out the last bytes, and give the Content-Length that this makes."""

    by_bytes: int = 1


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Flip every bit of one byte of the body."""

    at_byte: int = 0


Fault: TypeAlias = Refuse | Answer | Delay | Stall | Reset | Cut | Shorten | Corrupt
