"""How many processors a prefetch may keep busy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from idcfs.prefetch.processors import processor_count

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("group", "limits", "count"),
    [
        ("0::/", {}, 6),
        ("0::/", {".": "max 100000"}, 6),
        ("0::/", {".": "100000 100000"}, 1),  # as a container sees it
        ("0::/", {".": "5000 100000"}, 1),
        ("0::/", {".": "150000 100000"}, 2),
        ("0::/", {".": "800000 100000"}, 6),
        ("1:cpu:/box\n0::/user.slice/job", {"user.slice/job": "300000 100000"}, 3),
        ("0::/a/b", {"a/b": "max 100000", "a": "200000 100000", "b": "100000 100000"}, 2),
        ("1:cpu:/box", {"box": "100000 100000"}, 6),
        ("0::/gone", {}, 6),
        ("0::/", {".": "nonsense"}, 6),
    ],
)
def test_the_limits_of_control_groups_hold(
    group: str, limits: dict[str, str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    own, groups = tmp_path / "own", tmp_path / "groups"
    own.write_text(f"{group}\n")
    for name, limit in limits.items():
        (groups / name).mkdir(parents=True, exist_ok=True)
        (groups / name / "cpu.max").write_text(f"{limit}\n")
    assert processor_count(own, groups) == count


def test_a_machine_without_control_groups_has_its_processors(tmp_path: Path) -> None:
    assert processor_count(tmp_path / "none", tmp_path) == len(os.sched_getaffinity(0))
