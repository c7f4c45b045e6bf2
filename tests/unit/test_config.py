"""config.toml: what it may say, and what is said of what it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.config import cache_directory, config_path, read_config
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {"mount": ["cache-dir", "source"], "prefetch": ["cache-dir", "jobs"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_a_table_decides_over_the_top(path: Path) -> None:
    path.write_text('cache-dir = "/a"\nsource = "gcs"\n[prefetch]\njobs = 3\ncache-dir = "/b"\n')
    config = read_config(path)
    config.check(KNOWN)
    assert config.options_of("prefetch") == {"cache-dir": "/b", "source": "gcs", "jobs": 3}
    assert config.options_of("mount") == {"cache-dir": "/a", "source": "gcs"}
    assert config.options_of("size") == {"cache-dir": "/a", "source": "gcs"}


def test_underscores_do_as_well(path: Path) -> None:
    path.write_text('cache_dir = "/a"\n[prefetch]\njobs = 3\n')
    assert read_config(path).general == {"cache-dir": "/a"}


def test_no_file_says_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDCFS_CONFIG", raising=False)
    assert read_config(path).is_empty
    assert read_config(path / "below-no-directory").is_empty


def test_a_named_file_must_exist(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDCFS_CONFIG", str(path))
    assert config_path() == path
    with pytest.raises(UsageError, match="does not exist"):
        read_config()
    path.write_text("jobs = 1")
    assert read_config().general == {"jobs": 1}


def test_places_follow_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IDCFS_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert config_path() == tmp_path / "config" / "idcfs" / "config.toml"
    assert cache_directory() == tmp_path / "cache" / "idcfs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chache-dir = 1", "no option is called 'chache-dir'; did you mean 'cache-dir'?"),
        ("[mont]\n", "no command is called 'mont'; did you mean 'mount'?"),
        ("[mount]\njobs = 1", "no option of mount is called 'jobs'"),
    ],
)
def test_what_would_have_no_effect_is_refused(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config(path).check(KNOWN)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "text", ["jobs = ", b"\xff\xfe", "[mount.deeper]\nx = 1", "since = 2024-01-01", "x = [{}]"]
)
def test_what_makes_no_sense_is_refused(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=str(path)):
        read_config(path)


def test_an_unreadable_file_is_reported(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        read_config(path)
