"""What the mount counts at the store's door, and what it says there once."""

from __future__ import annotations

import logging

import pytest

from idcfs.errors import AccessDeniedError, StoreUnavailableError
from idcfs.mount.metered import MeteredStore
from tests.support.stores import BUCKET, MemoryStore


def test_the_way_round_is_told_once_when_the_store_refuses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = MemoryStore()
    metered = MeteredStore(store)
    for error in (StoreUnavailableError, AccessDeniedError, AccessDeniedError):

        def fail(prefix: str, error: type[Exception] = error) -> None:
            raise error("no")

        store.on_list = fail
        with pytest.raises(error):
            metered.list_prefix(BUCKET, "x/")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "--script run.sh" in record.getMessage()
    assert "idcfs prefetch --from-dir" in record.getMessage()
    assert metered.errors == {"StoreUnavailableError": 1, "AccessDeniedError": 2}
