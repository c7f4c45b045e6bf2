"""Sizes as users write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.cache.disk_ledger import DiskLedger
from idcfs.cache.limits import (
    Disk,
    Limits,
    check_cache_size,
    parse_amount,
    read_kept,
    resolve_limits,
)
from idcfs.cache.opening import open_cache
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50G", 50 * 10**9),
        ("50 GB", 50 * 10**9),
        ("500mb", 500 * 10**6),
        ("1.5T", 1_500_000_000_000),
        ("2GiB", 2 << 30),
        ("2gi", 2 << 30),
        ("12345", 12345),
        ("12 bytes", 12),
        ("0", 0),
        ("80%", 800),
        ("12.5 %", 125),
        ("none", None),
        (" None ", None),
    ],
)
def test_sizes_are_understood(text: str, expected: int | None) -> None:
    assert parse_amount(text, 1000) == expected


@pytest.mark.parametrize("text", ["", "much", "-1", "5X", "G", "5 i", "101%", "1e9", "5,0G"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size: write for example 50G"):
        parse_amount(text, 1000)


def test_the_default_takes_half_of_a_small_disk_and_50_gb_of_a_large_one() -> None:
    small, large = Disk(100 * 10**9, 20 * 10**9), Disk(10**13, 10**12)
    assert resolve_limits(small, 10 * 10**9, None, None) == Limits(15 * 10**9, 10**9)
    assert resolve_limits(large, 0, None, None) == Limits(50 * 10**9, 10**9)
    assert resolve_limits(Disk(64 * 10**6, 60 * 10**6), 0, None, None) == (
        Limits(30 * 10**6, 3_200_000)
    )


def test_what_the_user_says_goes() -> None:
    assert resolve_limits(Disk(1000, 500), 0, "none", "10%") == Limits(None, 100)
    assert resolve_limits(Disk(1000, 500), 0, "80%", "none") == Limits(800, 0)


def test_what_was_said_last_holds_for_those_who_say_nothing(root: Path) -> None:
    first = DiskLedger(root, cache_size="10M", min_free="5k", keep_limits=True, flush_s=None)
    assert first.limits() == Limits(10_000_000, 5000)
    second = DiskLedger(root, flush_s=None)
    assert second.limits() == Limits(10_000_000, 5000)
    third = DiskLedger(root, cache_size="none", keep_limits=True, flush_s=None)
    assert third.limits() == Limits(None, 5000)
    fourth = DiskLedger(root, cache_size="1k", flush_s=None)
    assert fourth.limits() == Limits(1000, 5000)
    fifth = DiskLedger(root, flush_s=None)
    assert fifth.limits() == Limits(None, 5000)
    for ledger in (first, second, third, fourth, fifth):
        ledger.close()


@pytest.mark.parametrize("shared", [False, True])
def test_limits_hold_for_others_although_nothing_is_stored(root: Path, shared: bool) -> None:
    said = open_cache(root, shared=shared, cache_size="10M", min_free="5k", keep_limits=True)
    other = open_cache(root, background=False)
    assert other.books.limits() == Limits(10_000_000, 5000)
    other.cache.close()
    said.cache.close()


@pytest.mark.parametrize("text", ["5", " 50 ", "999999"])
def test_a_cache_size_that_lacks_its_unit_is_told(text: str) -> None:
    with pytest.raises(UsageError, match=f"write {text.strip()}G"):
        check_cache_size(text)


@pytest.mark.parametrize("text", ["0", "0%", "none", "100K", "40000000"])
def test_a_cache_size_that_makes_sense(text: str) -> None:
    check_cache_size(text)


def test_limits_that_make_no_sense_are_passed_over(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root.mkdir(parents=True)
    (root / "limits").write_bytes(b"cache-size = \xff\nmin-free = 1k\nnonsense\n")
    assert read_kept(root) == (None, "1k")
    assert "passing over" in caplog.text
