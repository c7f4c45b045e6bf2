"""`idcfs cache`: what it tells and does, on a cache with files of real series."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.limits import keep_limits
from idcfs.cache.opening import open_cache
from idcfs.cache.pins import Pins
from idcfs.model import Instance, Listing
from tests.support.mounting import DEADLINE_S, Launcher
from tests.unit.cache.ledgers import BLOCK, on_disk, quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.model import SeriesUUID

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]


def answer(idcfs: Idcfs, *arguments: str, status: int = 0) -> dict[str, Any]:
    done = idcfs("cache", *arguments, "--json")
    assert done.returncode == status, done.stderr
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


def test_info_tells_size_limit_and_collections(idcfs: Idcfs, filled: Path) -> None:
    where = f"--cache-dir={filled}"
    keep_limits(filled, "10M", "1k")
    figures = answer(idcfs, "info", where, "--by=collection")
    assert figures["bytes"] == sum(on_disk(filled).values()) == 21 * BLOCK
    assert (figures["series"], figures["files"]) == (6, 6)
    assert (figures["limit_bytes"], figures["min_free_bytes"]) == (10_000_000, 1000)
    assert figures["collections"] == [
        {"collection_id": "lctsc", "series": 3, "files": 3, "bytes": 15 * BLOCK},
        {"collection_id": "rider_pilot", "series": 3, "files": 3, "bytes": 6 * BLOCK},
    ]
    done = idcfs("cache", "info", where, "--by=collection")
    assert "size    86 kB  (limit 10 MB)\n" in done.stdout
    assert "lctsc" in done.stdout


def test_options_come_from_variables_and_the_file_too(
    idcfs: Idcfs, filled: Path, settings: Path
) -> None:
    settings.write_text(f'cache-dir = "{filled}"\n[cache]\nby = "collection"\n')
    assert len(answer(idcfs, "info")["collections"]) == 2
    other = filled.with_name("other")
    other.mkdir()
    done = idcfs("cache", "info", "--json", IDCFS_CACHE_DIR=str(other))
    assert json.loads(done.stdout)["series"] == 0
    settings.write_text("[cache]\ncache-dri = 3\n")
    assert "did you mean 'cache-dir'" in idcfs("cache", "info").stderr


def test_evict_removes_a_selection_but_not_what_is_pinned(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    where = f"--cache-dir={filled}"
    first = known["lctsc"][0]
    assert answer(idcfs, "pin", where, f"--crdc-series-uuid={first}") == {
        "series": 1,
        "pinned": 1,
        "cached": 1,
        "bytes": 4 * BLOCK,
    }
    assert answer(idcfs, "info", where)["pinned_bytes"] == 4 * BLOCK
    evicted = answer(idcfs, "evict", where, "lctsc")
    assert (evicted["series"], evicted["pinned"], evicted["bytes"]) == (2, 1, 11 * BLOCK)
    assert set(on_disk(filled)) == {first, *known["rider_pilot"]}
    assert answer(idcfs, "unpin", where, str(first))["unpinned"] == 1
    assert answer(idcfs, "evict", where, str(first))["series"] == 1
    assert set(on_disk(filled)) == set(known["rider_pilot"])


def test_what_is_open_stays_and_is_told(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    reader = quiet(filled, None)
    reader.hold(known["lctsc"][1])
    done = idcfs("cache", "clear", "--yes", f"--cache-dir={filled}")
    assert done.returncode == 1
    assert done.stdout == "5 series removed (65.5 kB)\n"
    assert done.stderr == "idcfs: 1 series stay because they are in use\n"
    assert set(on_disk(filled)) == {known["lctsc"][1]}
    reader.close()


def test_clear_asks_and_keeps_what_is_pinned_and_not_ours(idcfs: Idcfs, filled: Path) -> None:
    where = f"--cache-dir={filled}"
    foreign = filled / "objects" / "notes.txt"
    foreign.write_text("mine")
    answer(idcfs, "pin", where, "rider_pilot")
    done = idcfs("cache", "clear", where)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert len(on_disk(filled)) == 6
    assert answer(idcfs, "clear", where, "--yes")["series"] == 3
    assert len(on_disk(filled)) == 3
    assert answer(idcfs, "clear", where, "--yes", "--pinned")["series"] == 3
    assert answer(idcfs, "info", where)["pinned_series"] == 0
    assert not on_disk(filled)
    assert foreign.read_text() == "mine"


def test_listings_are_cleared_on_demand_only(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    where, series = f"--cache-dir={filled}", known["lctsc"][0]
    listing = Listing(series, (Instance("a.dcm", 1, 2, "e"),))
    for origin in ("aws", "server-x"):
        cache = DiskCache(filled, origin=origin)
        cache.put_listing(listing)
        cache.close()
    foreign = filled / "listings" / "aws" / series[:2] / "notes.txt"
    foreign.write_text("mine")
    assert "listings" not in answer(idcfs, "clear", where, "--yes")
    assert len(list(filled.glob(f"listings/*/*/{series}"))) == 2
    done = idcfs("cache", "clear", where, "--listings")
    assert done.returncode == 2
    assert "and all listings from" in done.stderr
    assert answer(idcfs, "clear", where, "--listings", "--yes")["listings"] == 2
    assert not list(filled.glob(f"listings/*/*/{series}"))
    assert foreign.read_text() == "mine"
    done = idcfs("cache", "clear", where, "--listings", "--yes")
    assert done.stdout == "0 series removed (0 bytes), and 0 listings\n"


@pytest.mark.parametrize(("said", "left"), [("n\n", 6), ("y\n", 0)])
def test_on_a_terminal_the_user_decides(settings: Path, filled: Path, said: str, left: int) -> None:
    terminal, stdin = pty.openpty()
    os.write(terminal, said.encode())
    command = Launcher().command("cache", "clear", f"--cache-dir={filled}")
    done = subprocess.run(
        command, stdin=stdin, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    os.close(stdin)
    os.close(terminal)
    assert "Remove 6 series (86 kB)" in done.stderr
    assert len(on_disk(filled)) == left
    assert done.returncode == (1 if left else 0)
    assert ("idcfs: nothing was removed" in done.stderr) == bool(left)


@pytest.mark.parametrize("verb", ["pin", "evict", "verify", "unpin", "clear"])
def test_progress_is_drawn_on_a_terminal_alone(
    settings: Path, filled: Path, known: dict[str, list[SeriesUUID]], verb: str
) -> None:
    pinned = known["lctsc"][0]
    Pins(filled).add(pinned)
    chosen = {"verify": [], "clear": ["--yes", "--pinned"], "unpin": [str(pinned)]}
    command = Launcher().command(
        "cache", verb, f"--cache-dir={filled}", *chosen.get(verb, ["rider_pilot"])
    )
    terminal, stderr = pty.openpty()  # of no size, as in some containers
    shown = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, check=False, timeout=DEADLINE_S
    )
    os.close(stderr)
    drawn = b""
    with suppress(OSError):  # EIO is the end of a terminal
        while read := os.read(terminal, 4096):
            drawn += read
    os.close(terminal)
    assert b"%|" in drawn
    assert b"%|" not in shown.stdout
    piped = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE_S)
    assert b"%|" not in piped.stdout + piped.stderr


def test_what_is_evicted_is_looked_for_among_what_is_there(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    where = f"--cache-dir={filled}"
    gone = known["lctsc"][0]
    shutil.rmtree(filled / "objects" / gone[:2] / gone)  # behind the books' back
    (untold,) = (filled / "objects").glob(f"*/{known['lctsc'][1]}")
    done = sqlite3.connect(filled / "ledger" / "accounts.sqlite", isolation_level=None)
    done.execute("DELETE FROM series WHERE uuid = ?", (untold.name,))
    done.close()
    assert answer(idcfs, "evict", where, "lctsc")["series"] == 3
    assert set(on_disk(filled)) == set(known["rider_pilot"])
    assert answer(idcfs, "info", where)["series"] == 3


def test_a_directory_that_is_no_cache_is_refused(idcfs: Idcfs, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = idcfs("cache", "clear", "--yes", f"--cache-dir={home}")
    assert done.returncode == 2
    assert "there is no cache at" in done.stderr
    assert not home.exists()


@pytest.mark.parametrize("verb", ["info", "verify", "clear"])
def test_a_cache_that_is_out_of_reach_is_told_of_in_one_line(
    idcfs: Idcfs, tmp_path: Path, verb: str
) -> None:
    root = tmp_path / ("x" * 300)  # out of root's reach, too
    done = idcfs("cache", verb, f"--cache-dir={root}")
    assert done.returncode == 1
    assert done.stderr == (
        f"idcfs: cannot use the cache directory {root}: File name too long; "
        "choose another with --cache-dir\n"
    )


@pytest.mark.parametrize("verb", ["evict", "pin", "unpin"])
def test_nothing_chosen_is_a_usage_error(idcfs: Idcfs, filled: Path, verb: str) -> None:
    done = idcfs("cache", verb, f"--cache-dir={filled}")
    assert done.returncode == 2
    assert f"say what to {verb}" in done.stderr


def test_a_shared_cache_is_told_of_and_looked_after(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    where = f"--cache-dir={filled}"
    open_cache(filled, shared=True).cache.close()
    figures = answer(idcfs, "info", where)
    assert figures["shared"] is True
    assert (figures["series"], figures["files"], figures["bytes"]) == (6, 6, 21 * BLOCK)
    assert "several hosts" in idcfs("cache", "info", where).stdout
    answer(idcfs, "pin", where, str(known["lctsc"][0]))
    evicted = answer(idcfs, "evict", where, "lctsc")
    assert (evicted["series"], evicted["pinned"]) == (2, 1)
    assert answer(idcfs, "verify", where, status=1)["objects"] == 4
    assert answer(idcfs, "clear", where, "--yes", "--pinned")["failed"] == 0
    assert not on_disk(filled)


def test_verify_can_be_told_what_to_look_at(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    where = f"--cache-dir={filled}"
    figures = answer(idcfs, "verify", where, "--keep-damaged", "rider_pilot", status=1)
    assert (figures["objects"], figures["damaged"]) == (3, 3)  # without checksums
    figures = answer(idcfs, "verify", where, str(known["lctsc"][0]), status=1)
    assert (figures["objects"], figures["dropped"]) == (1, 1)
    assert len(on_disk(filled)) == 5
