"""The checksum of content is the one that every zlib computes, of whatever holds the content."""

from __future__ import annotations

import mmap
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.crc import crc32
from tests.support.stores import make_content

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import Bytes

CONTENT = make_content(300_000)


@given(st.binary(max_size=1_000), st.integers(0, 2**32 - 1))
def test_it_is_zlib_s(content: bytes, before: int) -> None:
    assert crc32(content) == zlib.crc32(content)
    assert crc32(content, before) == zlib.crc32(content, before)


def mapped(content: bytes) -> memoryview:
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memoryview(memory)


@pytest.mark.parametrize("hold", [bytes, bytearray, memoryview, mapped])
def test_it_takes_any_buffer_and_any_slice(hold: Callable[[bytes], Bytes]) -> None:
    held = hold(CONTENT)
    assert crc32(held) == zlib.crc32(CONTENT)
    assert crc32(memoryview(held)[1:-7]) == zlib.crc32(CONTENT[1:-7])
    assert crc32(memoryview(held)[100:], crc32(held[:100])) == zlib.crc32(CONTENT)
