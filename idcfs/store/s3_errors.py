"""Which of our errors stands for which of botocore's, in one table.

Imports botocore: only `wire`, and what it is made of, imports this, when a request has to go
through botocore.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from urllib3 import exceptions as http

from idcfs.errors import StoreError
from idcfs.store import failures
from idcfs.store.failures import Failure, answer_error, make_error, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class TooLongError(aws.BotoCoreError):
    """A listing is longer than any of S3's."""

    fmt = "a very long listing"


_UNTRUSTED = (
    StoreError,
    "the certificate of {endpoint} is not trusted; where a proxy inspects TLS, name its"
    " CA file in AWS_CA_BUNDLE",
)

# Exception → our error, and what to tell. The first that fits counts.
_BY_CLASS: tuple[tuple[tuple[type[Exception], ...], Failure], ...] = (
    ((aws.ConnectTimeoutError, http.ConnectTimeoutError), failures.NO_CONNECTION),
    ((aws.ReadTimeoutError, http.ReadTimeoutError, TimeoutError), failures.NO_ANSWER),
    ((aws.ProxyConnectionError, http.ProxyError), failures.NO_PROXY),
    ((aws.SSLError, http.SSLError), failures.NO_TLS),
    ((aws.EndpointConnectionError,), failures.UNREACHABLE),
    ((aws.ConnectionError, aws.HTTPClientError, http.HTTPError, OSError), failures.BROKEN),
    ((ResponseParserError,), failures.NOT_S3),
    ((TooLongError,), failures.TOO_LONG),
    ((Exception,), failures.OTHER),
)

_FOREIGN = (aws.BotoCoreError, aws.ClientError, ResponseParserError, http.HTTPError, OSError)


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
        raise make_error(failures.OTHER, action, endpoint, reason=str(exc)) from exc


def translate(exc: Exception, action: str, endpoint: str) -> StoreError:
    """Return our error for one of botocore's, urllib3's or the socket's."""
    if isinstance(exc, aws.ClientError):
        return _translate_answer(exc, action, endpoint)
    reason = reason_of(_innermost(exc))
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return make_error(_UNTRUSTED, action, endpoint)
    failure = next(failure for classes, failure in _BY_CLASS if isinstance(exc, classes))
    return make_error(failure, action, endpoint, reason=reason)


def _translate_answer(exc: aws.ClientError, action: str, endpoint: str) -> StoreError:
    about = exc.response.get("ResponseMetadata", {})
    words = exc.response.get("Error", {})
    return answer_error(
        int(about.get("HTTPStatusCode", 0)),
        str(words.get("Code") or ""),
        str(words.get("Message") or ""),
        action,
        endpoint,
        retry_after=about.get("HTTPHeaders", {}).get("retry-after", ""),
    )


def _innermost(exc: BaseException) -> BaseException:
    """Return the innermost cause, which alone says "connection refused"."""
    seen: set[int] = set()
    while id(exc) not in seen:
        seen.add(id(exc))
        inner = getattr(exc, "kwargs", {}).get("error") or exc.__cause__ or exc.__context__
        if not isinstance(inner, BaseException):
            break
        exc = inner
    return exc
