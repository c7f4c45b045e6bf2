"""Bytes through the mount equal the objects', however they are read."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.demo.replica import ReplicaObject
    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica


def ct_series(replica: ServedReplica) -> tuple[Path, tuple[ReplicaObject, ...]]:
    series = replica.one("CT", collection_id="lidc_idri")
    return default_path(series), replica.objects_of(series)


def largest_object(replica: ServedReplica) -> tuple[Path, ReplicaObject]:
    series = replica.one("SM")
    largest = max(replica.objects_of(series), key=lambda each: each.size_bytes)
    return default_path(series) / largest.name, largest


def assert_same_tree(copy: Path, objects: tuple[ReplicaObject, ...]) -> None:
    assert sorted(path.name for path in copy.iterdir()) == sorted(each.name for each in objects)
    for each in objects:
        assert (copy / each.name).read_bytes() == each.path.read_bytes(), each.name


def test_cp_every_series(mounted: Mount, replica: ServedReplica, tmp_path: Path) -> None:
    for number, series in enumerate(replica.series):
        copy = tmp_path / str(number)
        subprocess.run(["cp", "-r", str(mounted.path / default_path(series)), copy], check=True)
        assert_same_tree(copy, replica.objects_of(series))
        shutil.rmtree(copy)


def test_rsync_tar_and_sha256sum(mounted: Mount, replica: ServedReplica, tmp_path: Path) -> None:
    directory, objects = ct_series(replica)
    source = mounted.path / directory
    synced = tmp_path / "synced"
    subprocess.run(["rsync", "-a", f"{source}/", synced], check=True)
    assert_same_tree(synced, objects)
    again = subprocess.run(
        ["rsync", "-ai", f"{source}/", synced], check=True, capture_output=True, text=True
    )
    assert again.stdout == "", "a second rsync must find nothing to do"
    synced.chmod(0o755)

    packed = tmp_path / "packed.tar"
    subprocess.run(["tar", "-cf", packed, "-C", source, "."], check=True)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", packed, "-C", unpacked], check=True)
    assert_same_tree(unpacked, objects)

    summed = subprocess.run(
        ["sha256sum", *(source / each.name for each in objects)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[::2]
    assert summed == [hashlib.sha256(each.path.read_bytes()).hexdigest() for each in objects]


def test_dd_and_cat(mounted: Mount, replica: ServedReplica, tmp_path: Path) -> None:
    path, largest = largest_object(replica)
    out = tmp_path / "out"
    subprocess.run(
        ["dd", f"if={mounted.path / path}", f"of={out}", "bs=1000003", "status=none"], check=True
    )
    assert out.read_bytes() == largest.path.read_bytes()
    tail = subprocess.run(
        ["tail", "-c", "12345", mounted.path / path], check=True, capture_output=True
    ).stdout
    assert tail == largest.path.read_bytes()[-12345:]


def test_mmap(mounted: Mount, replica: ServedReplica) -> None:
    path, largest = largest_object(replica)
    content = largest.path.read_bytes()
    with (
        (mounted.path / path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert len(mapped) == len(content)
        for offset in (0, len(content) // 2, len(content) - 4096):
            assert mapped[offset : offset + 4096] == content[offset : offset + 4096]
        assert hashlib.md5(mapped).digest() == hashlib.md5(content).digest()


def read_randomly(top: Path, targets: list[tuple[Path, bytes]], seed: int, reads: int) -> int:
    """Read random pieces, also over and past the end, and compare each. Return how many."""
    choose = random.Random(seed)
    open_files = [(os.open(top / path, os.O_RDONLY), content) for path, content in targets]
    try:
        for _ in range(reads):
            fd, content = choose.choice(open_files)
            offset = choose.randrange(len(content) + 5000)
            length = choose.choice((1, 100, 4096, 70_000, 300_000))
            assert os.pread(fd, length, offset) == content[offset : offset + length]
    finally:
        for fd, _ in open_files:
            os.close(fd)
    return reads


def test_random_preads_by_16_threads_on_a_cold_cache(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    directory, objects = ct_series(replica)
    targets = [(directory / each.name, each.path.read_bytes()) for each in objects[:20]]
    path, largest = largest_object(replica)
    targets.append((path, largest.path.read_bytes()))
    with (
        mount_at(cache_dir=tmp_path / "cache") as mount,
        ThreadPoolExecutor(16) as pool,
    ):
        reads = [pool.submit(read_randomly, mount.path, targets, seed, 100) for seed in range(16)]
        assert sum(each.result() for each in reads) == 1600


def test_two_mounts_of_one_cache_at_once(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    directory, objects = ct_series(replica)
    targets = [(directory / each.name, each.path.read_bytes()) for each in objects]
    cache = tmp_path / "cache"
    with (
        mount_at(name="one", cache_dir=cache) as one,
        mount_at(name="two", cache_dir=cache) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        reads = [
            pool.submit(read_randomly, mount.path, targets, seed, 60)
            for seed in range(4)
            for mount in (one, two)
        ]
        assert sum(each.result() for each in reads) == 8 * 60
    held = list((cache / "objects").rglob("*.dcm"))
    assert {path.name for path in held} <= {each.name for each in objects}
    assert list((cache / "scratch").iterdir()) == []


def test_many_readers_of_one_file_fetch_it_once(
    mount_at: Callable[..., Mount], replica: ServedReplica, tmp_path: Path
) -> None:
    directory, objects = ct_series(replica)
    target = objects[0]
    with (
        FaultProxy(replica.endpoint_url) as proxy,
        mount_at(cache_dir=tmp_path / "cache", endpoint_url=proxy.endpoint_url) as mount,
        ThreadPoolExecutor(16) as pool,
    ):
        path = mount.path / directory / target.name
        contents = list(pool.map(lambda _: path.read_bytes(), range(16)))
        assert set(contents) == {target.path.read_bytes()}
        assert len(proxy.log(lambda request: request.path.endswith(target.name))) == 1
        assert len(proxy.log(lambda request: "list-type" in request.query)) == 1


def test_the_kernel_reads_further_ahead_where_that_is_permitted(mounted: Mount) -> None:
    device = mounted.path.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if not os.access(setting, os.W_OK):
        pytest.skip("only root may change the kernel's readahead, and not in every container")
    assert setting.read_text() == "1024\n"
