"""A store in memory, and units and windows small enough to have many."""

from __future__ import annotations

import pytest

from idcfs.fetch import runs, streams
from tests.support.stores import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(chunk_bytes=16)


@pytest.fixture(autouse=True)
def small_windows(small_units: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request brings 160 bytes at most; three are under way ahead of a reader."""
    for name, length in {
        "RUN_BYTES": 160,
        "_SHORT_RUNS": 1,
        "WINDOW_BYTES": 480,
        "IN_MEMORY_BYTES": 160,
        "FIRST_BYTES": 40,
        "_STEADY_BYTES": 80,
        "_SLACK_BYTES": 30,
    }.items():
        monkeypatch.setattr(streams, name, length)
    monkeypatch.setattr(runs, "_CHUNK_BYTES", 80)
