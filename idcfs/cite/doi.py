"""The DOI service, which gives citations in many formats, asked within a bounded time.

The only module that talks to it. Calls block; any thread may make them. Proxies are those
of the environment.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING

from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE_URL = "https://doi.org/"

MEDIA_TYPES = {
    "apa": "text/x-bibliography; style=apa; locale=en-US",
    "bibtex": "application/x-bibtex",
    "json": "application/vnd.citationstyles.csl+json",
    "turtle": "text/turtle",
}
"""What the service calls each format: https://citation.crosscite.org/docs.html#sec-4"""

_THREADS = 8
_REQUEST_TIMEOUT_S = 10.0
_ALL_TIMEOUT_S = 60.0
_ABOUT_THE_DOI = (404, 406, 410)  # unknown, or not to be had in this format
_MAX_BYTES = 1 << 20  # a citation has a few kB


@dataclass(slots=True)
class Answers:
    """What the service gave."""

    texts: dict[str, str] = field(default_factory=dict)
    """By DOI."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Why it gave nothing for a DOI, on one line."""
    unreachable: str | None = None
    """Why the service could not be reached; what is in neither dictionary was not asked."""


def ask(
    dois: Sequence[str],
    style: str,
    *,
    service_url: str = SERVICE_URL,
    timeout_s: float = _ALL_TIMEOUT_S,
) -> Answers:
    """Ask for the citation of each DOI in a style of MEDIA_TYPES; at most `timeout_s` in all.

    Ends at the first sign that the service cannot be reached. Raises UsageError for a
    service that is no http URL.
    """
    if urllib.parse.urlsplit(service_url).scheme not in ("http", "https"):
        raise UsageError(f"{service_url!r} is not the URL of a DOI service")
    desk = _Desk(list(reversed(dois)), MEDIA_TYPES[style], service_url.rstrip("/") + "/")
    # Daemons, which nobody joins in the end: looking up a name has no timeout of its own.
    threads = [threading.Thread(target=desk.work, daemon=True) for _ in dois[:_THREADS]]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return desk.close()


class _Desk:
    """The DOIs to be asked for, shared by threads."""

    def __init__(self, dois: list[str], media_type: str, service_url: str) -> None:
        self._lock = threading.Lock()
        self._left = dois
        self._pending = len(dois)
        self._media_type = media_type
        self._service_url = service_url
        self._answers = Answers()
        self._closed = False

    def work(self) -> None:
        """Ask for one DOI after the other, until none is left."""
        while (doi := self._next()) is not None:
            try:
                self._note(self._answers.texts, doi, self._get(doi))
            except urllib.error.HTTPError as exc:
                exc.close()
                if exc.code in _ABOUT_THE_DOI:
                    self._note(self._answers.refusals, doi, f"the DOI service answers {exc.code}")
                else:
                    self._give_up(f"it answers {exc.code} {exc.reason}")
            except (OSError, HTTPException, ValueError) as exc:
                reason = getattr(exc, "reason", None) or exc
                self._give_up(str(getattr(reason, "strerror", None) or reason))

    def close(self) -> Answers:
        """Take no more answers, and return those that came."""
        with self._lock:
            self._closed = True
            self._left.clear()
            if self._pending and self._answers.unreachable is None:
                self._answers.unreachable = "it took too long"
            return self._answers

    def _next(self) -> str | None:
        with self._lock:
            return self._left.pop() if self._left else None

    def _note(self, answers: dict[str, str], doi: str, text: str) -> None:
        with self._lock:
            if not self._closed:
                answers[doi] = text
                self._pending -= 1

    def _give_up(self, reason: str) -> None:
        with self._lock:
            self._left.clear()
            if not self._closed:
                self._answers.unreachable = reason

    def _get(self, doi: str) -> str:
        request = urllib.request.Request(
            self._service_url + urllib.parse.quote(doi), headers={"Accept": self._media_type}
        )
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as response:
            body: bytes = response.read(_MAX_BYTES)
            # Proxies that want a login say so with status 200.
            if response.headers.get_content_type() == "text/html":
                raise ValueError("a web page comes instead of a citation")
        text = body.decode("utf-8", "replace").strip()
        if self._media_type == MEDIA_TYPES["json"]:
            json.loads(text)
        return text
