"""Numbers that carry what they name."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.model import DirectoryId
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

names = st.lists(st.text(min_size=1).filter(lambda n: n.isascii()), unique=True).map(sorted)


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
def test_any_number_can_be_taken_apart(number: int) -> None:
    is_file_inode(Inode(number))
    file_of_inode(Inode(number))
    directory_of_inode(Inode(number))


@given(names)
def test_numbers_are_different_and_fit(given_names: list[str]) -> None:
    numbers = number_names(given_names)

    assert len(set(numbers)) == len(given_names)
    assert all(0 <= number < 2**32 for number in numbers)
    assert number_names(given_names) == numbers


@given(names, st.data())
def test_a_name_keeps_its_number_when_others_go(
    given_names: list[str], data: st.DataObject
) -> None:
    crcs = [zlib.crc32(name.encode()) for name in given_names]
    if len(set(crcs)) < len(crcs):
        return
    kept = [name for name in given_names if data.draw(st.booleans())]

    every = dict(zip(given_names, number_names(given_names), strict=True))
    assert number_names(kept) == [every[name] for name in kept]


@given(names)
def test_colliding_names_have_numbers_of_their_own(given_names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zlib, "crc32", few_bits)
        numbers = number_names(given_names)
        shorter = number_names(given_names[: len(given_names) // 2])

    assert len(set(numbers)) == len(given_names)
    assert numbers[: len(shorter)] == shorter  # those earlier in order are not moved by later ones


def test_the_last_number_is_followed_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zlib, "crc32", lambda name: 2**32 - 1)

    assert number_names(["a", "b", "c"]) == [2**32 - 1, 0, 1]


@given(st.lists(st.uuids(), unique_by=lambda uuid: str(uuid)[:8], max_size=50))
def test_numbers_are_in_the_order_of_uuids(uuids: list[UUID]) -> None:
    numbers = number_names(sorted(f"{uuid}.dcm" for uuid in uuids))

    assert numbers == sorted(numbers)
