"""What the adapter leaves undone."""

from __future__ import annotations

import errno
from unittest.mock import Mock

import pyfuse3
import pytest

from idcfs.fuse import Adapter
from tests.support.stores import in_trio


@in_trio
async def test_the_kernel_is_told_not_to_ask_at_each_close() -> None:
    adapter = Adapter(Mock(), Mock(), Mock(), Mock())
    with pytest.raises(pyfuse3.FUSEError) as raised:
        await adapter.flush(pyfuse3.FileHandleT(1))
    assert raised.value.errno == errno.ENOSYS
