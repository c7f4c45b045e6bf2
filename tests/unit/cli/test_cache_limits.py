"""`--cache-size` and `--min-free` of prefetch, on a cache with files of real series."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.model import SeriesUUID

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]


def test_a_size_that_is_none_is_a_usage_error(idcfs: Idcfs, tmp_path: Path) -> None:
    done = idcfs("prefetch", "rider_pilot", f"--cache-dir={tmp_path / 'c'}", "--cache-size=lots")
    assert done.returncode == 2
    assert "'lots' is not a size" in done.stderr
    done = idcfs("prefetch", "rider_pilot", f"--cache-dir={tmp_path / 'c'}", "--cache-size=5")
    assert done.returncode == 2
    assert "'5' is 5 bytes, too few for any file: write 5G" in done.stderr
    assert not (tmp_path / "c").exists()


def test_what_does_not_fit_into_the_limit_is_refused_before_anything_moves(
    idcfs: Idcfs, filled: Path, known: dict[str, list[SeriesUUID]]
) -> None:
    where = f"--cache-dir={filled}"
    done = idcfs("prefetch", "lctsc", where, "--cache-size=1G", "--min-free=0", "--dry-run")
    assert done.returncode == 1
    assert "do not fit into the cache" in done.stderr
    assert "limit 1 GB" in done.stderr
    fits = ["--cache-size=none", "--min-free=0", "--dry-run"]
    assert idcfs("prefetch", str(known["lctsc"][0]), where, *fits).returncode == 0


def test_a_prefetch_never_makes_books_in_a_directory_that_is_not_ours(
    idcfs: Idcfs, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    done = idcfs("prefetch", "rider_pilot", f"--cache-dir={mine}", "--dry-run")
    assert done.returncode == 1
    assert os.listdir(mine) == ["thesis.txt"]
