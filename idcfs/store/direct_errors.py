"""Which of our errors stands for which failure of a direct connection, in one table."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.errors import StoreError
from idcfs.store import failures
from idcfs.store.dialling import (
    CertificatesError,
    ConnectTimeoutError,
    NoTLSError,
    UnreachableError,
)
from idcfs.store.failures import Failure, make_error, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# Exception → our error, and what to tell. The first that fits counts.
_BY_CLASS: tuple[tuple[type[OSError], Failure], ...] = (
    (
        CertificatesError,
        (StoreError, "the trusted certificates cannot be read ({reason}); check AWS_CA_BUNDLE"),
    ),
    (ConnectTimeoutError, failures.NO_CONNECTION),
    (TimeoutError, failures.NO_ANSWER),
    (NoTLSError, failures.NO_TLS),
    (UnreachableError, failures.UNREACHABLE),
    (OSError, failures.BROKEN),
)


@contextmanager
def translated(action: str, endpoint: str) -> Iterator[None]:
    """Turn the network's errors into ours.

    `action` opens the message: "cannot list s3://bucket/prefix".
    """
    try:
        yield
    except OSError as exc:
        failure = next(failure for kind, failure in _BY_CLASS if isinstance(exc, kind))
        raise make_error(failure, action, endpoint, reason=reason_of(exc)) from exc
