"""Prefetch and mounts together: the cache they share, and the tree nobody can write into."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import idcfs
from idcfs.config import PATH_VARIABLE
from tests.fuse.test_tree import default_path
from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica


def test_a_directory_inside_a_mount_is_refused(mounted: Mount, tmp_path: Path) -> None:
    launcher = Launcher(environment={PATH_VARIABLE: os.devnull})
    link = tmp_path / "link"
    link.symlink_to(mounted.path)
    for directory in (mounted.path / "nlst", mounted.path, link / "new"):
        done = launcher.run("prefetch", "rider_pilot", f"--download-dir={directory}")
        assert done.returncode == 2
        assert f"{directory} is inside the idcfs mount {mounted.path}" in done.stderr
        some = idcfs.Index(cache_dir=tmp_path / "cache").select("rider_pilot")
        with pytest.raises(idcfs.UsageError, match="is inside the idcfs mount"):
            some.prefetch(directory)


def test_what_was_prefetched_is_mounted_without_a_server(
    own_replica: ServedReplica, tmp_path: Path, mount_at: Callable[..., Mount]
) -> None:
    cache = tmp_path / "cache"
    launcher = Launcher(environment={PATH_VARIABLE: os.devnull})
    series = own_replica.one("MR")
    options = [f"--endpoint-url={own_replica.endpoint_url}", f"--cache-dir={cache}"]
    done = launcher.run("prefetch", series.uuid, *options)
    assert done.returncode == 0, done.stderr
    own_replica.store.stop()
    with mount_at(cache_dir=cache, endpoint_url=own_replica.endpoint_url) as mount:
        directory = mount.path / default_path(series)
        for built in own_replica.objects_of(series):
            content = (directory / built.key.split("/")[1]).read_bytes()
            assert content == (own_replica.directory / built.bucket / built.key).read_bytes()
