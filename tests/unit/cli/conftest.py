"""The command as a user runs it, without a user's own settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import Launcher

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

Idcfs = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file that does not exist yet, but will be read when it does."""
    for variable in os.environ:
        if variable.startswith("IDCFS_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "idcfs").mkdir()
    return tmp_path / "idcfs" / "config.toml"


@pytest.fixture
def idcfs(settings: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `idcfs` with arguments, and options from the environment as keywords."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return Launcher(environment=variables).run(*arguments)

    return run
