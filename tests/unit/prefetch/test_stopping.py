"""A signal that comes while no batch is under way ends a prefetch as one within a batch does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from idcfs.prefetch.batches import Streaming
from idcfs.prefetch.job import PrefetchRequest, run_prefetch
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.targets import Verify
from tests.unit.prefetch.test_carried import Carried

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.model import Series


def test_a_signal_between_batches_ends_all_in_order(tmp_path: Path) -> None:
    carried = Carried(tmp_path)
    contents = [carried.put(number, f"{number}") for number in range(1, 5)]

    def placed() -> Iterator[tuple[Series, str]]:
        # The first series of the second batch tells that the first is full, that of the third
        # comes between these two.
        for number, each in enumerate(carried.placed):
            if number == 2:
                os.kill(os.getpid(), signal.SIGINT)
            yield each

    request = PrefetchRequest(
        download_dir=tmp_path / "here",
        cache_dir=tmp_path / "cache",
        endpoint_url="http://127.0.0.1:9",
        source="aws",
        jobs=2,
        verify=Verify.FULL,
        report_path=tmp_path / "report",
        from_dir=carried.root,
        streaming=Streaming("true", removes=False, batch_bytes=1),
    )
    request.download_dir.mkdir()  # type: ignore[union-attr]  # it has one
    outcome = Outcome(8, 0)
    former = signal.getsignal(signal.SIGINT)
    run_prefetch(request, placed(), outcome, lambda *_: None, lambda: iter(carried.placed))
    assert signal.getsignal(signal.SIGINT) is former
    assert outcome.interrupted
    assert outcome.commands_done == 1
    assert {path.name for path in (tmp_path / "here").rglob("*.dcm")} == set(contents[0])
    last = (tmp_path / "report").read_text().splitlines()[-1]
    assert json.loads(last)["summary"]["interrupted"]


HELD_UP = """
import os, signal, time
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.stopping import noted_signals

with noted_signals(Outcome(0, 0), ends_at_second={}):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(4)
"""


@pytest.mark.parametrize("ends", [True, False])
def test_a_second_signal_ends_what_is_held_up(ends: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD_UP.format(ends)], capture_output=True, text=True, check=False
    )
    assert done.returncode == (130 if ends else 0), done.stderr
    assert ("ended at the second signal" in done.stderr) == ends
