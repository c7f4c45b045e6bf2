"""Which of our errors stands for which of botocore's, in one table.

Imports botocore: only `wire` imports this, and that only when the first request
is made.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from urllib3 import exceptions as http

from idcfs.errors import (
    AccessDeniedError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY = "{endpoint} is overloaded or out of order ({answer}); try again later"
_OTHER = "the exchange with {endpoint} failed ({reason}); check --endpoint-url"
_CHECK = "check the network, the proxy settings and --endpoint-url"

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

# Exception → our error, and what to tell. The first that fits counts.
_BY_CLASS: tuple[tuple[tuple[type[Exception], ...], type[StoreError], str], ...] = (
    (
        (aws.ConnectTimeoutError, http.ConnectTimeoutError),
        StoreUnavailableError,
        "{endpoint} did not accept a connection in time; " + _CHECK,
    ),
    (
        (aws.ReadTimeoutError, http.ReadTimeoutError, TimeoutError),
        StoreUnavailableError,
        "{endpoint} stopped answering; " + _CHECK,
    ),
    (
        (aws.ProxyConnectionError, http.ProxyError),
        StoreUnavailableError,
        "the proxy on the way to {endpoint} does not answer; check HTTPS_PROXY and HTTP_PROXY",
    ),
    (
        (aws.SSLError, http.SSLError),
        StoreUnavailableError,
        "no TLS connection to {endpoint} ({reason}); " + _CHECK,
    ),
    (
        (aws.EndpointConnectionError,),
        StoreUnavailableError,
        "{endpoint} cannot be reached ({reason}); " + _CHECK,
    ),
    (
        (aws.ConnectionError, aws.HTTPClientError, http.HTTPError, OSError),
        StoreUnavailableError,
        "the connection to {endpoint} broke ({reason}); " + _CHECK,
    ),
    (
        (ResponseParserError,),
        StoreError,
        "{endpoint} does not speak S3: its answer cannot be parsed; check --endpoint-url,"
        " and whether the network shows a log-in page",
    ),
)

_FOREIGN = (aws.BotoCoreError, aws.ClientError, ResponseParserError, http.HTTPError, OSError)

_LONGEST_REASON = 200


def not_s3(action: str, endpoint: str) -> StoreError:
    """Return the error for an answer that no S3 server gives, a captive portal's for one."""
    return _error(StoreError, action, _BY_CLASS[-1][2], endpoint=endpoint)


@contextmanager
def translated(action: str, endpoint: str) -> Iterator[None]:
    """Turn botocore's, urllib3's and the socket's errors into ours.

    `action` opens the message: "cannot list s3://bucket/prefix".
    """
    try:
        yield
    except _FOREIGN as exc:
        raise translate(exc, action, endpoint) from exc
    except ValueError as exc:
        # Keys that cannot be sent (lone surrogates), or figures and dates that are none.
        raise _error(StoreError, action, _OTHER, endpoint=endpoint, reason=str(exc)) from exc


def translate(exc: Exception, action: str, endpoint: str) -> StoreError:
    """Return our error for one of botocore's, urllib3's or the socket's."""
    if isinstance(exc, aws.ClientError):
        return _translate_answer(exc, action, endpoint)
    reason = _reason(exc)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        text = (
            "the certificate of {endpoint} is not trusted; where a proxy inspects TLS, name its"
            " CA file in AWS_CA_BUNDLE"
        )
        return _error(StoreError, action, text, endpoint=endpoint)
    for classes, error, text in _BY_CLASS:
        if isinstance(exc, classes):
            return _error(error, action, text, endpoint=endpoint, reason=reason)
    return _error(StoreError, action, _OTHER, endpoint=endpoint, reason=reason)


def _translate_answer(exc: aws.ClientError, action: str, endpoint: str) -> StoreError:
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(exc.response.get("Error", {}).get("Code") or "")
    answer = f"{status} {code}" if code and code != str(status) else str(status)
    if status in _BY_STATUS:
        error, text = _BY_STATUS[status]
        return _error(error, action, text, endpoint=endpoint, answer=answer)
    if 300 <= status < 400:
        text = (
            "{endpoint} redirects elsewhere ({answer}); check --endpoint-url, and whether the"
            " network shows a log-in page"
        )
    else:
        text = "{endpoint} answered {answer}: {reason}; check --endpoint-url"
    reason = str(exc.response.get("Error", {}).get("Message") or "no explanation")
    return _error(StoreError, action, text, endpoint=endpoint, answer=answer, reason=reason)


def _reason(exc: BaseException) -> str:
    """Return the innermost cause, which alone says "connection refused"."""
    seen: set[int] = set()
    while id(exc) not in seen:
        seen.add(id(exc))
        inner = getattr(exc, "kwargs", {}).get("error") or exc.__cause__ or exc.__context__
        if not isinstance(inner, BaseException):
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
