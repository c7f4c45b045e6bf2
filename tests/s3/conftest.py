"""What tests against a store have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.replica import ServedReplica


@pytest.fixture
def proxy(replica: ServedReplica) -> Iterator[FaultProxy]:
    """A proxy of the test's own before the store."""
    with FaultProxy(replica.endpoint_url) as proxy:
        yield proxy
