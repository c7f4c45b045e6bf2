"""How much the cache may take, as users say it: "50G", "500 MB", "80%", "none"."""

from __future__ import annotations

import logging
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.errors import CacheError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_SIZE_BYTES = 50 * 10**9
"""The limit on a large disk: some hundred CT series, or a few dozen slides."""

DEFAULT_MIN_FREE_BYTES = 10**9
"""What is left free on a large disk; on a small one it is `_MIN_FREE_SHARE` of it."""

_LEAST_UNITLESS_BYTES = 10**6
"""A smaller cache is hardly meant: of a number without a unit the unit was forgotten."""

_SIZE_SHARE = 0.5
_MIN_FREE_SHARE = 0.05

logger = logging.getLogger(__name__)

_KEPT = "limits"
"""The file in the cache directory that has the limits, so that a mount without options
does not throw out what a prefetch with `--cache-size 1T` brought."""

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)(b|bytes?)?", re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_POWERS: dict[str, int] = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a cache keeps to."""

    size_bytes: int | None
    """What it may take on disk; None for as much as the disk has."""
    min_free_bytes: int
    """What it leaves free on its file system."""

    def require_possible(self, needed_bytes: int) -> None:
        """Raise CacheError for what is not to be had, whatever is evicted for it."""
        if self.size_bytes is not None and needed_bytes > self.size_bytes:
            raise CacheError(
                f"an object of {needed_bytes:,} bytes is larger than the cache may get "
                f"({self.size_bytes:,} bytes)"
            )


@dataclass(frozen=True, slots=True)
class Disk:
    """The size of a file system, and what of it an ordinary user can still write."""

    size_bytes: int
    free_bytes: int


def measure_disk(path: Path) -> Disk:
    """Return the figures of the file system that `path`, or what will hold it, is on.

    Raises OSError.
    """
    existing = next(each for each in (path, *path.parents) if each.exists())
    status = os.statvfs(existing)
    return Disk(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def measure_disk_of(root: Path) -> Disk:
    """Return the same of a cache directory. Raises CacheError."""
    try:
        return measure_disk(root)
    except OSError as exc:
        raise CacheError(f"cannot examine {root}: {exc.strerror}") from exc


def parse_amount(text: str, disk_bytes: int) -> int | None:
    """Return the bytes that "50G", "1.5 TiB" or "80%" (of the disk) mean; None for "none".

    Units are decimal, as disks are sold; with an "i" they are powers of 1024. Raises
    UsageError for anything else.
    """
    word = text.strip().lower()
    if word == "none":
        return None
    if found := _SHARE.fullmatch(word):
        share = float(found[1])
        if share <= 100:
            return round(disk_bytes * share / 100)
    elif found := _AMOUNT.fullmatch(word):
        base = 1024 if found[3] else 1000
        if found[2] or not found[3]:
            return round(float(found[1]) * float(base ** _POWERS[found[2]]))
    raise UsageError(
        f"{text!r} is not a size: write for example 50G, 500MB, 1.5TiB, 80% (of the disk) or none"
    )


def check_cache_size(text: str) -> None:
    """Raise UsageError for what is no size, or lacks its unit: no file fits into 50 bytes."""
    size_bytes = parse_amount(text, 0)
    if size_bytes and text.strip().isdecimal() and size_bytes < _LEAST_UNITLESS_BYTES:
        raise UsageError(
            f"{text!r} is {size_bytes:,} bytes, too few for any file: write {text.strip()}G for "
            "gigabytes, or 0 to store nothing"
        )


def resolve_limits(
    disk: Disk, held_bytes: int, cache_size: str | None, min_free: str | None
) -> Limits:
    """Turn `--cache-size` and `--min-free` into bytes; None is what is sane on this disk.

    By default the cache takes 50 GB, or half of what it holds and what is free if that is
    less, and leaves 1 GB free, or a twentieth of the disk. Raises UsageError.
    """
    if cache_size is None:
        room = disk.free_bytes + held_bytes
        size_bytes: int | None = min(DEFAULT_SIZE_BYTES, round(room * _SIZE_SHARE))
    else:
        size_bytes = parse_amount(cache_size, disk.size_bytes)
    if min_free is None:
        min_free_bytes = min(DEFAULT_MIN_FREE_BYTES, round(disk.size_bytes * _MIN_FREE_SHARE))
    else:
        min_free_bytes = parse_amount(min_free, disk.size_bytes) or 0
    return Limits(size_bytes, min_free_bytes)


def agree(
    root: Path, cache_size: str | None, min_free: str | None, *, keep: bool
) -> tuple[str | None, str | None]:
    """Return the limits that hold: those said here, else those said last. `keep` what is said."""
    kept = read_kept(root)
    agreed = (cache_size or kept[0], min_free or kept[1])
    if keep and agreed != kept:
        keep_limits(root, *agreed)
    return agreed


def read_kept(root: Path) -> tuple[str | None, str | None]:
    """Return the `--cache-size` and `--min-free` that were last said for a cache."""
    said: dict[str, str] = {}
    try:
        lines = (root / _KEPT).read_text(errors="replace").splitlines()
    except OSError:
        return None, None
    for line in lines:
        name, _, text = line.partition("=")
        try:
            parse_amount(text, 0)
        except UsageError:
            logger.warning("%s: passing over %r", root / _KEPT, line)
        else:
            said[name.strip()] = text.strip()
    return said.get("cache-size"), said.get("min-free")


def keep_limits(root: Path, cache_size: str | None, min_free: str | None) -> None:
    """Write down what a user said, for all who use the cache later. Never raises."""
    said = {"cache-size": cache_size, "min-free": min_free}
    text = "".join(f"{name} = {value}\n" for name, value in said.items() if value is not None)
    unfinished = root / f".idcfs-{secrets.token_hex(8)}"
    try:
        unfinished.write_text(text)
        unfinished.rename(root / _KEPT)
    except OSError as exc:
        logger.warning("cannot keep the limits of the cache: %s", exc.strerror)
        with suppress(OSError):
            unfinished.unlink()
