"""Numbers that carry what they name."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.model import DirectoryId
from idcfs.vfs import inodes
from idcfs.vfs.inodes import (
    ROOT_INODE,
    Inode,
    directory_of_inode,
    file_of_inode,
    inode_of_directory,
    inode_of_file,
    is_file_inode,
    number_names,
)

if TYPE_CHECKING:
    from uuid import UUID

ascii_text = st.text(st.characters(codec="ascii"), min_size=1)
same_digits = st.builds(
    "{}{}".format, st.sampled_from(["00000009", "0000000a", "ffffffff"]), ascii_text
)
names = st.lists(ascii_text | same_digits, unique=True).map(sorted)


def first_number(name: str) -> int:
    if re.match("[0-9a-f]{8}.", name, re.DOTALL):
        return int(name[:8], 16)
    return zlib.crc32(name.encode())


def few_bits(content: bytes) -> int:
    return sum(content) % 4


@given(st.integers(0, 2**40 - 1))
def test_directories_keep_their_number(directory: int) -> None:
    inode = inode_of_directory(DirectoryId(directory))

    assert directory_of_inode(inode) == directory
    assert not is_file_inode(inode)
    assert inode >= ROOT_INODE


@given(st.integers(0, 2**30 - 1), st.integers(0, 2**32 - 1))
def test_files_keep_their_row_and_number(row: int, number: int) -> None:
    inode = inode_of_file(row, number)

    assert file_of_inode(inode) == (row, number)
    assert is_file_inode(inode)
    assert inode < 2**63


@given(st.integers(-(2**64), 2**64))
def test_any_number_can_be_taken_apart_and_put_together(number: int) -> None:
    inode = Inode(number)
    if is_file_inode(inode):
        assert inode_of_file(*file_of_inode(inode)) == inode
    else:
        assert inode_of_directory(directory_of_inode(inode)) == inode


@given(names)
def test_numbers_are_different_and_fit(given_names: list[str]) -> None:
    numbers = number_names(given_names)

    assert len(set(numbers)) == len(given_names)
    assert all(0 <= number < 2**32 for number in numbers)
    assert number_names(given_names) == numbers


@given(names, st.data())
def test_a_number_is_one_name_s_whatever_others_come(
    given_names: list[str], data: st.DataObject
) -> None:
    first = [first_number(name) for name in given_names]
    before = [name for name in given_names if data.draw(st.booleans())]

    every = dict(zip(given_names, number_names(given_names), strict=True))
    for name, number in zip(given_names, first, strict=True):
        assert (every[name] == number) == (first.count(number) == 1)
    names_now = {number: name for name, number in every.items()}
    for name, number in zip(before, number_names(before), strict=True):
        assert names_now.get(number, name) == name


@given(names)
def test_names_whose_hashes_collide_have_numbers_of_their_own(given_names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zlib, "crc32", few_bits)
        patch.setattr(inodes, "_hash", lambda name, attempt: few_bits(name.encode()) + attempt)
        numbers = number_names(given_names)

    assert len(set(numbers)) == len(given_names)
    assert all(0 <= number < 2**32 for number in numbers)


def test_names_that_all_begin_alike_take_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = Mock(wraps=inodes._hash)
    monkeypatch.setattr(inodes, "_hash", hashed)

    assert len(set(number_names(f"20230101-{n:06}.dcm" for n in range(16_000)))) == 16_000
    assert 16_000 <= hashed.call_count < 16_010


@given(st.lists(st.uuids(), unique_by=lambda uuid: str(uuid)[:8], max_size=50))
def test_numbers_are_in_the_order_of_uuids(uuids: list[UUID]) -> None:
    numbers = number_names(sorted(f"{uuid}.dcm" for uuid in uuids))

    assert numbers == sorted(numbers)
