"""Which directories are taken for a cache, and that nothing in any other is touched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.errors import CacheError
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import path_of, store_all

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = make_content(90)
REF = make_ref(CONTENT)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refuse(root: Path, reason: str) -> None:
    """Opening says why not, and changes nothing."""
    before = snapshot(root)
    with pytest.raises(CacheError, match=reason):
        DiskCache(root)
    assert snapshot(root) == before


def test_a_new_cache_says_what_it_is(root: Path, cache: DiskCache) -> None:
    assert (root / "format").read_text() == "idcfs-cache 1\n"
    assert (root / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f0688")
    assert root.stat().st_mode & 0o777 == 0o700
    assert cache.failure is None


@pytest.mark.parametrize("number", [2, 10, 999])
def test_a_newer_format_is_refused(root: Path, cache: DiskCache, number: int) -> None:
    store_all(cache.open(REF), REF, CONTENT)
    cache.close()
    (root / "format").write_text(f"idcfs-cache {number}\n")

    refuse(root, f"newer idcfs .*format {number}")


@pytest.mark.parametrize("content", ["rclone 1\n", "idcfs-cache\n", "idcfs-cache x\n", "\xff"])
def test_a_format_of_somebody_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "format").write_text(content)

    refuse(tmp_path, "not a cache of idcfs")


@pytest.mark.parametrize("name", ["thesis.tex", ".bashrc", "objects.old"])
def test_a_directory_with_files_of_somebody_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    (tmp_path / "objects").mkdir()

    refuse(tmp_path, name)


def test_foreign_files_in_a_cache_are_left_alone(root: Path) -> None:
    DiskCache(root).close()
    (root / "notes.txt").write_text("precious")
    (root / "objects").mkdir()
    (root / "objects" / "notes.txt").write_text("precious")

    DiskCache(root).close()

    assert (root / "notes.txt").read_text() == "precious"
    assert (root / "objects" / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("lost", [{"format"}, {"format", "CACHEDIR.TAG"}])
def test_a_cache_whose_format_is_lost_is_taken_over(root: Path, lost: set[str]) -> None:
    """As after a power cut in its first instant, and as caches were before formats had numbers."""
    cache = DiskCache(root)
    store_all(cache.open(REF), REF, CONTENT)
    cache.close()
    (root / "claims").unlink()
    for name in lost:
        (root / name).unlink()
    (root / "layouts").mkdir()

    cache = DiskCache(root)

    assert cache.open(REF).read(REF.whole) == CONTENT
    assert (root / "format").read_text() == "idcfs-cache 1\n"


def test_an_empty_format_counts_as_lost(root: Path) -> None:
    DiskCache(root).close()
    (root / "format").write_bytes(b"")

    DiskCache(root).close()

    assert (root / "format").read_text() == "idcfs-cache 1\n"


def test_the_topmost_directory_of_a_disk_may_be_a_cache(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    DiskCache(tmp_path).close()


def test_a_directory_that_anyone_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    refuse(tmp_path, f"chmod o-w {tmp_path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_directory_of_another_user_is_refused_even_to_root(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    os.chown(tmp_path / "cache", 12345, 12345)

    refuse(tmp_path / "cache", "belongs to another user")


def test_objects_of_a_cache_without_checksums_are_adopted_if_their_md5_is_right(
    root: Path, cache: DiskCache
) -> None:
    good, bad, unknown = (
        make_ref(CONTENT, "good.dcm"),
        make_ref(CONTENT, "bad.dcm"),
        make_ref(CONTENT, "unknown.dcm", etag="abc-2"),
    )
    path_of(root, good).parent.mkdir(parents=True)
    path_of(root, good).write_bytes(CONTENT)
    path_of(root, bad).write_bytes(CONTENT[:-1] + b"x")
    path_of(root, unknown).write_bytes(CONTENT)

    assert cache.open(good).read(good.whole) == CONTENT
    assert os.getxattr(path_of(root, good), "user.idcfs")
    assert cache.open(bad).missing(bad.whole) == [bad.whole]
    assert cache.open(unknown).missing(unknown.whole) == [unknown.whole]
