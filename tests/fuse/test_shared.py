"""Two mounts of one cache, as on two hosts that share it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.fuse.test_tree import default_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica


def test_two_mounts_share_a_cache_without_locks(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    layouts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    series = replica.one("CT", collection_id="lidc_idri")
    private = tmp_path / f"idcfs-{os.geteuid()}"
    private.mkdir(mode=0o700)
    (private / "layouts").symlink_to(layouts / "layouts")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    narrow = "--patient-id=" + series.patient_id
    one = mount_at("--cache-shared", narrow, cache_dir=cache, name="one")
    other = mount_at(narrow, cache_dir=cache, name="other")
    with one, other:
        for mount in (one, other):
            directory = mount.path / default_path(series)
            for each in replica.objects_of(series)[:20]:
                assert (directory / each.name).read_bytes() == each.path.read_bytes()
        there = {path.name for path in cache.iterdir()}
    assert there >= {"objects", "listings", "shared"}
    assert not there & {"ledger", "claims", "scratch", "layouts", "partial"}
