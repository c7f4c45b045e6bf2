"""Which of our errors stands for which answer, and for which failure of the network."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from idcfs.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
)
from idcfs.store.dialling import (
    CertificatesError,
    ConnectTimeoutError,
    ProxyFailedError,
    ProxyRefusedError,
    UnreachableError,
)
from idcfs.store.http import MalformedAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY = "{endpoint} is overloaded or out of order ({answer}); try again later"
_OTHER = "the exchange with {endpoint} failed ({reason}); check --endpoint-url"
_CHECK = "check the network, the proxy settings and --endpoint-url"
_NOT_S3 = (
    "{endpoint} does not speak S3: its answer cannot be parsed; check --endpoint-url,"
    " and whether the network shows a log-in page"
)

# HTTP status → our error, and what to tell. `{answer}` is the status with S3's own code.
_BY_STATUS: dict[int, tuple[type[StoreError], str]] = {
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
    408: (StoreUnavailableError, _BUSY),
    412: (IntegrityError, "the object at {endpoint} changed after it was listed ({answer})"),
    416: (IntegrityError, "the object at {endpoint} is shorter than it was listed ({answer})"),
    429: (StoreUnavailableError, _BUSY),
    500: (StoreUnavailableError, _BUSY),
    502: (StoreUnavailableError, _BUSY),
    503: (StoreUnavailableError, _BUSY),
    504: (StoreUnavailableError, _BUSY),
}

# The proxy's status when asked to connect → our error; others may pass.
_BY_PROXY_STATUS: dict[int, tuple[type[StoreError], str]] = {
    403: _BY_STATUS[403],
    407: _BY_STATUS[407],
}
_PROXY_FAILS = (
    StoreUnavailableError,
    "the proxy on the way to {endpoint} cannot connect there ({answer}); " + _CHECK,
)

# Exception → our error, and what to tell. The first that fits counts.
_BY_CLASS: tuple[tuple[type[Exception], type[StoreError], str], ...] = (
    (
        ssl.SSLCertVerificationError,
        StoreUnavailableError,
        "the certificate of {endpoint} is not trusted ({reason}); where a proxy inspects TLS,"
        " name its CA file in AWS_CA_BUNDLE",
    ),
    (
        CertificatesError,
        StoreError,
        "the trusted certificates cannot be read ({reason}); check AWS_CA_BUNDLE",
    ),
    (
        ConnectTimeoutError,
        StoreUnavailableError,
        "{endpoint} did not accept a connection in time; " + _CHECK,
    ),
    (TimeoutError, StoreUnavailableError, "{endpoint} stopped answering; " + _CHECK),
    (
        ProxyFailedError,
        StoreUnavailableError,
        "the proxy on the way to {endpoint} does not answer ({reason}); check HTTPS_PROXY and"
        " HTTP_PROXY",
    ),
    (
        ssl.SSLError,
        StoreUnavailableError,
        "no TLS connection to {endpoint} ({reason}); " + _CHECK,
    ),
    (
        UnreachableError,
        StoreUnavailableError,
        "{endpoint} cannot be reached ({reason}); " + _CHECK,
    ),
    (
        OSError,
        StoreUnavailableError,
        "the connection to {endpoint} broke ({reason}); " + _CHECK,
    ),
    (
        MalformedAnswerError,
        StoreUnavailableError,
        "{endpoint} does not speak proper HTTP ({reason}); " + _CHECK,
    ),
    # Keys that cannot be sent (lone surrogates), or figures and dates that are none.
    (ValueError, StoreError, _OTHER),
)

_LONGEST_REASON = 200


def not_s3(action: str, endpoint: str) -> StoreError:
    """Return the error for an answer that no S3 server gives, a captive portal's for one."""
    return _error(StoreError, action, _NOT_S3, endpoint=endpoint)


@contextmanager
def translated(action: str, endpoint: str) -> Iterator[None]:
    """Turn what the network, TLS and HTTP raise into our errors.

    `action` opens the message: "cannot list s3://bucket/prefix".
    """
    try:
        yield
    except (OSError, MalformedAnswerError, ValueError) as exc:
        raise translate(exc, action, endpoint) from exc


def translate(
    exc: OSError | MalformedAnswerError | ValueError, action: str, endpoint: str
) -> StoreError:
    """Return our error for one of the network's, TLS's or HTTP's."""
    if isinstance(exc, ProxyRefusedError):
        error, text = _BY_PROXY_STATUS.get(exc.status, _PROXY_FAILS)
        return _error(error, action, text, endpoint=endpoint, answer=str(exc.status))
    error, text = next((error, text) for kind, error, text in _BY_CLASS if isinstance(exc, kind))
    reason = str(exc) if isinstance(exc, CertificatesError) else _reason(exc)
    return _error(error, action, text, endpoint=endpoint, reason=reason)


def translate_answer(
    status: int, code: str, message: str, action: str, endpoint: str, *, retry_after: str = ""
) -> StoreError:
    """Return our error for an answer that is one, in S3's own words where there are any."""
    answer = f"{status} {code}" if code and code != str(status) else str(status)
    if status in _BY_STATUS:
        kind, text = _BY_STATUS[status]
        error = _error(kind, action, text, endpoint=endpoint, answer=answer)
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
    return _error(StoreError, action, text, endpoint=endpoint, answer=answer, reason=reason)


def _seconds(retry_after: str) -> float | None:
    """Return how many seconds a Retry-After says; None where it is a date, or nonsense."""
    is_number = retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 7
    return float(retry_after) if is_number else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no explanation"


def _reason(exc: BaseException) -> str:
    """Return the innermost cause, which alone says "connection refused"."""
    seen: set[int] = set()
    while id(exc) not in seen:
        seen.add(id(exc))
        inner = exc.__cause__ or exc.__context__
        if inner is None:
            break
        exc = inner
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


def _error(kind: type[StoreError], action: str, text: str, **words: str) -> StoreError:
    """Build a one-line error. What the server or a key supplied may hold anything."""
    words = {name: _printable(word)[:_LONGEST_REASON] for name, word in words.items()}
    return kind(f"{_printable(action)}: {text.format(**words)}")


def _printable(text: str) -> str:
    """Return `text` in one line and without terminal escapes."""
    one_line = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one_line)
