"""config.toml: what it may say, and what is said of what it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.config import Config, cache_directory, config_paths, read_config, read_file
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {"mount": ["cache-dir", "source"], "prefetch": ["cache-dir", "jobs"]}


USERS = ("mount", "prefetch")
KEYS = ("mountpoint",)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def read(*paths: Path) -> Config:
    return Config(tuple(file for each in paths if (file := read_file(each)) is not None))


def values(config: Config, command: str, section: str | None = None) -> dict[str, object]:
    return {key: said.value for key, said in config.said(command, section).items()}


def test_the_narrower_table_decides(path: Path) -> None:
    path.write_text(
        'cache-dir = "/a"\nsource = "gcs"\n'
        '[prefetch]\njobs = 3\ncache-dir = "/b"\n'
        '[mounts.lung]\nmountpoint = "/lung"\ncache-dir = "/c"\n'
    )
    config = read(path)
    config.check(KNOWN, users=USERS, keys=KEYS)
    assert values(config, "prefetch") == {"cache-dir": "/b", "source": "gcs", "jobs": 3}
    assert values(config, "mount") == {"cache-dir": "/a", "source": "gcs"}
    assert values(config, "size") == {"cache-dir": "/a", "source": "gcs"}
    lung = {"cache-dir": "/c", "source": "gcs", "mountpoint": "/lung"}
    assert values(config, "mount", "lung") == lung
    assert values(config, "prefetch", "lung") == {**lung, "jobs": 3}


def test_a_table_of_views_is_the_option_of_their_name(path: Path) -> None:
    path.write_text('[mounts.lung.views]\nfirst = "%Modality"\n"the second" = "@x"\n')
    assert values(read(path), "mount", "lung") == {"view": ["first=%Modality", "the second=@x"]}


def test_each_value_says_where_it_stands(path: Path) -> None:
    path.write_text('cache-dir = "/a"\n[mount]\nsource = "gcs"\n[mounts.lung]\nmountpoint="/l"\n')
    said = read(path).said("mount", "lung")
    assert {key: (each.path, each.table) for key, each in said.items()} == {
        "cache-dir": (path, ""),
        "source": (path, "mount"),
        "mountpoint": (path, "mounts.lung"),
    }


def test_the_later_file_decides_table_by_table(tmp_path: Path) -> None:
    site, user = tmp_path / "site.toml", tmp_path / "user.toml"
    site.write_text('cache-dir = "/s"\nsource = "gcs"\n[mounts.lung]\ncache-dir = "/lung"\n')
    user.write_text('cache-dir = "/u"\n[mounts.skin]\nmountpoint = "/skin"\n')
    config = read(site, user)
    assert values(config, "mount") == {"cache-dir": "/u", "source": "gcs"}
    assert values(config, "mount", "lung")["cache-dir"] == "/lung"
    assert config.sections == ["lung", "skin"]


def test_a_mount_that_is_not_described_is_refused(path: Path) -> None:
    path.write_text("[mounts.lung]\n[mounts.skin]\n")
    with pytest.raises(UsageError, match="no mount is called 'lugn'; did you mean 'lung'"):
        read(path).said("mount", "lugn")
    with pytest.raises(UsageError, match="the configuration: no mount is called 'lung'"):
        Config().said("mount", "lung")


def test_underscores_do_as_well(path: Path) -> None:
    path.write_text('cache_dir = "/a"\n[prefetch]\njobs = 3\n')
    assert values(read(path), "mount") == {"cache-dir": "/a"}


def test_no_file_says_nothing(path: Path) -> None:
    assert read_file(path) is None
    assert read_file(path / "below-no-directory") is None


def test_a_named_file_must_exist(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDCFS_CONFIG", str(path))
    assert config_paths() == [path]
    with pytest.raises(UsageError, match="does not exist"):
        read_config()
    path.write_text("jobs = 1")
    assert values(read_config(), "prefetch") == {"jobs": 1}


def test_places_follow_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("IDCFS_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert config_paths() == [
        tmp_path / place / "idcfs/config.toml" for place in ("site", "config")
    ]
    assert cache_directory() == tmp_path / "cache" / "idcfs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chache-dir = 1", "no option is called 'chache-dir'; did you mean 'cache-dir'?"),
        ("[mont]\n", "no command is called 'mont'; did you mean 'mount'?"),
        ("[mount]\njobs = 1", "no option of mount is called 'jobs'"),
        ("[mount.lung]\nsource = 'gcs'", "[mount.lung] means nothing; mounts are [mounts.NAME]"),
        (
            "[mounts.lung]\nmontpoint = '/l'",
            "no option of a mount (lung) is called 'montpoint'; did you mean 'mountpoint'?",
        ),
        ("[mounts.lung]\nmanifest = 'x'", "no option of a mount (lung) is called 'manifest'"),
        ("mountpoint = '/l'", "no option is called 'mountpoint'"),
    ],
)
def test_what_would_have_no_effect_is_refused(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read(path).check(KNOWN, users=USERS, keys=KEYS)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "text",
    [
        "jobs = ",
        b"\xff\xfe",
        "[mount.deeper]\nx = 1",
        "since = 2024-01-01",
        "x = [{}]",
        "mounts = 3",
        "[mounts]\nlung = 3",
        "[mounts.'a b']",
        "[mounts.'../a']",
        "[mounts.lung]\nviews = 3",
        "[mounts.lung.views]\na = 3",
        "[mounts.lung.views.a]\nx = 'y'",
        "[mounts.lung]\nview = 'a='\n[mounts.lung.views]\nb = ''",
        "[mount.views]\na = ''",
    ],
)
def test_what_makes_no_sense_is_refused(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=str(path)):
        read_file(path)


def test_an_unreadable_file_is_reported(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        read_file(path)
