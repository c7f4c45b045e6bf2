"""How a store is named where its listings are kept."""

from __future__ import annotations

import pytest

from idcfs.errors import UsageError
from idcfs.store.endpoint import origin_of


def test_the_two_public_copies_have_names_of_their_own() -> None:
    assert (origin_of(None, "aws"), origin_of(None, "gcs")) == ("aws", "gcs")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8333", "server-127-0-0-1-8333"),
        ("https://S3.Example.org/", "server-s3-example-org"),
        ("https://[::1]:9000/sub/path", "server----1--9000"),
    ],
)
def test_a_server_is_named_by_host_and_port(url: str, expected: str) -> None:
    assert origin_of(url, "aws") == expected


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(UsageError):
        origin_of("nonsense", "aws")
