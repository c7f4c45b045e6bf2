"""`idcfs cache` beside a live mount."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fuse.test_tree import default_path
from tests.support.mounting import Launcher, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica


def cleared(cache: Path) -> dict[str, int]:
    done = Launcher().run("cache", "clear", "--yes", "--json", f"--cache-dir={cache}")
    answer = json.loads(done.stdout)
    assert done.returncode == int(answer["in_use"] > 0), done.stderr
    assert isinstance(answer, dict)
    return answer


def test_what_is_open_survives_a_clear_and_the_rest_is_fetched_again(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    some, *others = replica.objects_of(series)
    with mount_at(f"--patient-id={series.patient_id}", cache_dir=cache) as mount:
        directory = mount.path / default_path(series)
        with (directory / some.name).open("rb") as file:
            assert file.read(100) == some.path.read_bytes()[:100]
            assert cleared(cache)["in_use"] >= 1
            assert file.read() == some.path.read_bytes()[100:]
        wait_until(lambda: cleared(cache)["in_use"] == 0, "the mount lets go")
        assert not list(cache.glob("objects/*/*/*"))
        for each in (some, *others):
            assert (directory / each.name).read_bytes() == each.path.read_bytes()


def test_limits_said_to_a_mount_that_only_reads_hold_at_once(
    mount_at: Callable[..., Mount], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with mount_at("--cache-size=1G", "--min-free=2G", cache_dir=cache):
        done = Launcher().run("cache", "info", "--json", f"--cache-dir={cache}")
    figures = json.loads(done.stdout)
    assert (figures["limit_bytes"], figures["min_free_bytes"]) == (10**9, 2 * 10**9)
