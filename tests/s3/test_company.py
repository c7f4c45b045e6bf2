"""A prefetch by several processes that cannot have them all, or not all series."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import IndexFileError
from idcfs.model import Series, SeriesUUID
from idcfs.prefetch import company
from idcfs.prefetch.job import PrefetchRequest, run_prefetch
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.targets import Verify

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tests.support.replica import ServedReplica

    Placed = tuple[Series, str]


@pytest.fixture
def wanted(replica: ServedReplica) -> list[Placed]:
    """Small series, each with its directory."""
    found: list[Placed] = []
    for row, each in enumerate(replica.series):
        sizes = [built.size_bytes for built in replica.objects_of(each)]
        if sum(sizes) < 10**6:
            series = Series(SeriesUUID(each.uuid), each.bucket, row, len(sizes), sum(sizes))
            found.append((series, each.uuid))
    assert len(found) > 5
    return found


class Together:
    """Runs a prefetch by three processes."""

    def __init__(self, endpoint_url: str, base: Path) -> None:
        self.root = base / "download"
        self.request = PrefetchRequest(
            download_dir=self.root,
            cache_dir=base / "cache",
            endpoint_url=endpoint_url,
            source="aws",
            jobs=None,
            verify=Verify.FULL,
            processes=3,
        )

    def __call__(self, wanted: list[Placed], *, then: Exception | None = None) -> Outcome:
        def placed() -> Iterator[Placed]:
            yield from wanted
            if then is not None:
                raise then

        outcome = Outcome(
            sum(series.instance_count or 0 for series, _ in wanted),
            sum(series.size_bytes for series, _ in wanted),
        )
        self.root.mkdir(exist_ok=True)
        run_prefetch(self.request, placed(), outcome, lambda *_: None, lambda: iter(()))
        return outcome


@pytest.fixture
def together(replica: ServedReplica, tmp_path: Path) -> Together:
    return Together(replica.endpoint_url, tmp_path)


@pytest.mark.parametrize("failure", [IndexFileError("damaged"), OSError(errno.EIO, "damaged")])
def test_an_index_that_cannot_be_read_to_its_end_is_told_of(
    together: Together, wanted: list[Placed], failure: Exception
) -> None:
    with pytest.raises(type(failure), match="damaged"):
        together(wanted, then=failure)


def test_a_machine_that_starts_no_more_processes_is_made_do_with(
    together: Together,
    wanted: list[Placed],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start, started = company._start, list[object]()

    def start_one(feed: Connection, news: Connection) -> subprocess.Popen[bytes]:
        if started:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(process := start(feed, news))
        return process

    monkeypatch.setattr(company, "_start", start_one)
    outcome = together(wanted)
    assert outcome.is_complete
    assert outcome.fetched_files == outcome.total_files
    (told,) = caplog.messages
    assert "cannot start process 3 of 3 (Resource temporarily unavailable)" in told


@pytest.mark.parametrize("does", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_processes_that_end_before_they_begin_are_not_missed(
    together: Together, wanted: list[Placed], monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setattr(company, "child_command", lambda _: ([sys.executable, "-c", does], {}))
    outcome = together(wanted)
    assert outcome.is_complete
    assert outcome.fetched_files == outcome.total_files
