"""Fixtures that every room's tests may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.replica import (
    ServedReplica,
    build_for_tests,
    serve_replica,
    serve_shared_replica,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.demo.replica import Replica


@pytest.fixture(scope="session")
def built_replica() -> Replica:
    """The replica's DICOM files on disk, without a server."""
    return build_for_tests()


@pytest.fixture(scope="session")
def replica(
    built_replica: Replica, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedReplica]:
    """The replica on an S3 server that runs for the whole session. Leave it running."""
    yield from serve_shared_replica(built_replica, tmp_path_factory.mktemp("replica-server"))


@pytest.fixture
def own_replica(
    built_replica: Replica, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedReplica]:
    """A server of the test's own: `.store` may be stopped, killed and started again.

    It holds all series but the slide, to be filled within a second or two.
    """
    small = [series for series in built_replica.series if series.modality != "SM"]
    yield from serve_replica(built_replica, tmp_path_factory.mktemp("own-server"), only=small)
