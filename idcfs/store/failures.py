"""What to tell when a request fails: our error and the words, whoever sent the request."""

from __future__ import annotations

from http import HTTPStatus

from idcfs.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
)

Failure = tuple[type[StoreError], str]
"""One of our errors, and its message behind the colon. `{endpoint}` and `{reason}` or
`{answer}`, the status with S3's own code, are filled in."""

_CHECK = "check the network, the proxy settings and --endpoint-url (idcfs doctor helps)"
NO_CONNECTION = (
    StoreUnavailableError,
    "{endpoint} did not accept a connection in time; " + _CHECK,
)
NO_ANSWER = (StoreUnavailableError, "{endpoint} stopped answering; " + _CHECK)
NO_TLS = (StoreUnavailableError, "no TLS connection to {endpoint} ({reason}); " + _CHECK)
UNREACHABLE = (StoreUnavailableError, "{endpoint} cannot be reached ({reason}); " + _CHECK)
NO_PROXY = (
    StoreUnavailableError,
    "the proxy on the way to {endpoint} does not answer ({reason}); check HTTPS_PROXY and"
    " HTTP_PROXY",
)
_NO_CONNECTIONS = (NO_CONNECTION, NO_TLS, UNREACHABLE, NO_PROXY)
BROKEN = (StoreUnavailableError, "the connection to {endpoint} broke ({reason}); " + _CHECK)
NOT_S3 = (
    StoreError,
    "{endpoint} does not speak S3: its answer cannot be parsed; check --endpoint-url,"
    " and whether the network shows a log-in page",
)
TOO_LONG = (
    StoreError,
    "{endpoint} sends a listing that is longer than any of S3's; check --endpoint-url",
)
OTHER = (StoreError, "the exchange with {endpoint} failed ({reason}); check --endpoint-url")
_BUSY = (
    StoreUnavailableError,
    "{endpoint} is overloaded or out of order ({answer}); try again later",
)

_BY_STATUS: dict[int, Failure] = {
    401: (
        AccessDeniedError,
        "{endpoint} asks for credentials ({answer}), which IDC does not need; check"
        " --endpoint-url, and whether a proxy or firewall refuses",
    ),
    403: (
        AccessDeniedError,
        "{endpoint} refused ({answer}); check --endpoint-url, and whether a proxy or firewall"
        " on the way refuses",
    ),
    404: (ObjectNotFoundError, "{endpoint} has no such object or bucket ({answer})"),
    407: (
        AccessDeniedError,
        "the proxy on the way to {endpoint} asks for credentials ({answer}); put them into"
        " HTTPS_PROXY",
    ),
    412: (IntegrityError, "the object at {endpoint} changed after it was listed ({answer})"),
    416: (IntegrityError, "the object at {endpoint} is shorter than it was listed ({answer})"),
    **dict.fromkeys((408, 429, 500, 502, 503, 504), _BUSY),
}

_LONGEST_REASON = 200


def make_error(failure: Failure, action: str, endpoint: str, **words: str) -> StoreError:
    """Build a one-line error. What the server or a key supplied may hold anything.

    `action` opens the message: "cannot list s3://bucket/prefix".
    """
    kind, text = failure
    words = {
        name: _printable(word)[:_LONGEST_REASON]
        for name, word in {"endpoint": endpoint, **words}.items()
    }
    fault = text.format(**words)
    error = kind(f"{_printable(action)}: {fault}")
    if isinstance(error, StoreUnavailableError):
        error.fault, error.no_connection = fault, failure in _NO_CONNECTIONS
    return error


def not_s3(action: str, endpoint: str) -> StoreError:
    """Return the error for an answer that no S3 server gives, a captive portal's for one."""
    return make_error(NOT_S3, action, endpoint)


def answer_error(
    status: int, code: str, message: str, action: str, endpoint: str, *, retry_after: str = ""
) -> StoreError:
    """Return our error for an answer that is one, in S3's own words where there are any."""
    answer = f"{status} {code}" if code and code != str(status) else str(status)
    if status in _BY_STATUS:
        error = make_error(_BY_STATUS[status], action, endpoint, answer=answer)
        if isinstance(error, StoreUnavailableError):
            error.asks_for_less = status in (429, 503)
            error.retry_after_s = _seconds(retry_after)
        return error
    if 300 <= status < 400:
        text = (
            "{endpoint} redirects elsewhere ({answer}); check --endpoint-url, and whether the"
            " network shows a log-in page"
        )
    else:
        text = "{endpoint} answered {answer}: {reason}; check --endpoint-url"
    reason = message or _phrase(status)
    return make_error((StoreError, text), action, endpoint, answer=answer, reason=reason)


def reason_of(exc: BaseException) -> str:
    """Return the words of an error that was caused by no other."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


def _seconds(retry_after: str) -> float | None:
    """Return how many seconds a Retry-After says; None where it is a date, or nonsense."""
    is_number = retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 7
    return float(retry_after) if is_number else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no explanation"


def _printable(text: str) -> str:
    """Return `text` in one line and without terminal escapes."""
    one_line = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one_line)
