"""Fixtures for tests that mount for real."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.mounting import Mount, User, mount_type, ordinary_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.replica import ServedReplica


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory whose layout of the whole index is compiled once for all tests."""
    directory = tmp_path_factory.mktemp("shared-cache")
    (directory / "layouts").mkdir(mode=0o700)  # links to it work from the first mount on
    return directory


@pytest.fixture(scope="module")
def mounted(
    replica: ServedReplica, layouts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """The whole index on the replica, for tests that only read. Leave it mounted."""
    path = tmp_path_factory.mktemp("idc")
    with Mount(path, endpoint_url=replica.endpoint_url, cache_dir=layouts) as mount:
        yield mount


@pytest.fixture
def mount_at(
    tmp_path: Path, replica: ServedReplica, layouts: Path
) -> Iterator[Callable[..., Mount]]:
    """Make mounts of the test's own, on a fresh directory; none outlives the test."""
    made = []

    def make(*arguments: str, name: str = "mnt", **options: object) -> Mount:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        settings: dict[str, Any] = {
            "endpoint_url": replica.endpoint_url,
            "cache_dir": layouts,
            **options,
        }
        _share_layouts(settings["cache_dir"], layouts)
        made.append(Mount(path, *arguments, **settings))
        return made[-1]

    yield make
    for mount in made:
        mount.clear_away()


def _share_layouts(cache: Path, layouts: Path) -> None:
    """Let a test's own cache find the compiled layouts: compiling takes seconds."""
    if not cache.exists():
        cache.mkdir()
        (cache / "layouts").symlink_to(layouts / "layouts")


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on, which is let go of whatever happens."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    if mount_type(path) is not None:
        subprocess.run(["fusermount3", "-uz", str(path)], check=True)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    """An ordinary user."""
    with ordinary_user() as someone:
        yield someone
