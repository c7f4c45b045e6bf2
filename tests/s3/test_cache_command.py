"""`idcfs cache` on what a prefetch from a real server has brought."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.mounting import Launcher
from tests.unit.cache.ledgers import on_disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.replica import ServedReplica


def run(*arguments: str, status: int = 0) -> tuple[str, str]:
    done = Launcher().run(*arguments)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def figures(*arguments: str, status: int = 0) -> dict[str, Any]:
    answer = json.loads(run("cache", *arguments, "--json", status=status)[0])
    assert isinstance(answer, dict)
    return answer


def test_a_damaged_file_is_found_dropped_and_fetched_again(
    replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    where = f"--cache-dir={cache}"
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    fetch = [
        "prefetch",
        series.series_instance_uid,
        where,
        "--cache-size=1G",
        f"--endpoint-url={replica.endpoint_url}",
    ]
    run(*fetch)
    told = figures("info", where, "--by=collection")
    assert told["bytes"] == sum(on_disk(cache).values())
    assert (told["series"], told["files"]) == (1, len(objects))
    assert told["limit_bytes"] == 10**9
    assert [each["collection_id"] for each in told["collections"]] == ["lidc_idri"]
    assert figures("verify", where) == {
        "objects": len(objects),
        "bytes": sum(each.size_bytes for each in objects),
        "damaged": 0,
        "dropped": 0,
        "recounted_series": 0,
    }
    victim = next(cache.glob(f"objects/*/*/{objects[3].name}"))
    victim.chmod(0o600)
    with victim.open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\xff\x00\xff")
    _, complaint = run("cache", "verify", where, "--keep-damaged", status=1)
    assert objects[3].name in complaint
    assert victim.exists()
    told = figures("verify", where, status=1)
    assert (told["damaged"], told["dropped"], told["recounted_series"]) == (1, 1, 1)
    assert not victim.exists()
    assert figures("verify", where)["damaged"] == 0
    assert "1 files fetched" in run(*fetch)[0]
    assert victim.read_bytes() == objects[3].path.read_bytes()
    assert figures("info", where)["bytes"] == sum(on_disk(cache).values())


def test_a_prefetch_beyond_the_limit_is_refused_and_leaves_the_cache_alone(
    replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    series = replica.one("CT", collection_id="lidc_idri")
    _, complaint = run(
        "prefetch",
        series.series_instance_uid,
        f"--cache-dir={cache}",
        "--cache-size=10M",
        f"--endpoint-url={replica.endpoint_url}",
        status=1,
    )
    assert "do not fit into the cache" in complaint
    assert "raise --cache-size" in complaint
    assert not cache.exists()


def test_what_is_pinned_stays_when_more_is_prefetched(
    replica: ServedReplica, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    options = [f"--cache-dir={cache}", "--min-free=0"]
    kept, scan = (
        replica.one("CT", collection_id="eay131"),
        replica.one("CT", collection_id="lidc_idri"),
    )
    endpoint = f"--endpoint-url={replica.endpoint_url}"
    run("prefetch", kept.series_instance_uid, *options, "--cache-size=1G", endpoint)
    run("cache", "pin", kept.series_instance_uid, f"--cache-dir={cache}")
    before = on_disk(cache)
    run("prefetch", scan.series_instance_uid, *options, "--cache-size=45M", endpoint)
    others = replica.one("MR", collection_id="rider_phantom_mri")
    run("prefetch", others.series_instance_uid, *options, endpoint)
    after = on_disk(cache)
    assert before.items() <= after.items()
    assert sum(after.values()) <= 45_000_000
    assert len(after) == 2, "the pinned series, and the latest"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_read_only_cache_is_examined_and_nothing_in_it_fetched(
    replica: ServedReplica, tmp_path: Path
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    disk = tmp_path / "disk"
    disk.mkdir()
    where = f"--cache-dir={disk / 'cache'}"
    fetch = ["prefetch", series.series_instance_uid, where]
    fetch.append(f"--endpoint-url={replica.endpoint_url}")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
    try:
        run(*fetch, "--cache-size=1G", "--min-free=0")
        victim = next(disk.glob(f"cache/objects/*/*/{objects[3].name}"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        told, complaint = run("cache", "info", where, "--json")
        assert json.loads(told)["files"] == len(objects)
        assert "Read-only file system" in complaint
        assert figures("verify", where)["damaged"] == 0
        # No limit is asked for what needs no room.
        done, _ = run(*fetch, "--cache-size=1M")
        assert f"{len(objects):,} were there" in done
        _, complaint = run("cache", "clear", where, "--yes", status=1)
        assert complaint.endswith("holds: Read-only file system\n")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        victim.chmod(0o600)
        victim.write_bytes(b"damaged")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        checked = figures("verify", where, status=1)
        assert (checked["damaged"], checked["dropped"]) == (1, 0)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
