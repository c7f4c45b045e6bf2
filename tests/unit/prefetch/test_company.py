"""What the first of several processes makes of what another one tells."""

from __future__ import annotations

import os
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.model import Series, SeriesUUID
from idcfs.prefetch import company
from idcfs.prefetch.job import PrefetchRequest
from idcfs.prefetch.merged import Merged
from idcfs.prefetch.outcome import Ending, Failure, Outcome
from idcfs.prefetch.sharing import News, Shares
from idcfs.prefetch.targets import Verify
from tests.support.mounting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = PrefetchRequest(Path("/there"), Path("/cache"), None, "aws", None, Verify.FULL)


def series(number: int, instance_count: int | None) -> Series:
    return Series(SeriesUUID(f"{number:032x}"), "bucket", number, instance_count, 0)


def fetched(series: Series, count: int) -> tuple[Ending, ...]:
    return (Ending(series.uuid, "s3://bucket/file", None, "fetched", 1),) * count


class Played:
    """The other process, as a test plays it; the real one only sleeps."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "1000"])

    def start(self, feed: Connection, news: Connection) -> subprocess.Popen[bytes]:
        self.feed, self.news = (Connection(os.dup(each.fileno())) for each in (feed, news))
        return self.process

    def ask(self) -> object:
        self.feed.send(None)
        return self.feed.recv()

    def die(self) -> None:
        self.process.kill()
        self.feed.close()
        self.news.close()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    played = Played()
    monkeypatch.setattr(company, "_start", played.start)
    yield played
    played.die()
    played.process.wait()


def test_of_one_that_dies_what_it_had_not_brought_has_failed(played: Played) -> None:
    whole, unknown, wide = series(1, None), series(2, None), series(3, 3)
    unlisted, lost, narrow = series(4, 7), series(5, 2), series(6, None)
    given = [(each, each.uuid) for each in (whole, unknown, wide, unlisted, lost, narrow)]
    outcome = Outcome(12, 0)
    merged = Merged(outcome, lambda *_: None, lambda ending: None)
    with company._Companion(1, Shares(iter(given)), merged) as companion:
        companion.serve(REQUEST)
        assert played.feed.recv()[0] == REQUEST
        assert [played.ask() for _ in given] == given
        played.news.send(
            News(
                listed=((whole.uuid, 2), (wide.uuid, 4), (lost.uuid, 2), (narrow.uuid, 0)),
                endings=fetched(whole, 2) + fetched(wide, 3) + fetched(lost, 1),
                extra_files=3,
            )
        )
        played.news.send(News(endings=fetched(lost, 1), extra_files=3))
        played.die()
        wait_until(lambda: not companion.is_running, "it is known to have ended")
    companion.note_left()
    reason = "the process that brought it was ended by signal 9; the same command goes on from here"
    assert outcome.failures == [
        Failure(f"series {each.uuid}", reason) for each in (unknown, wide, unlisted)
    ]
    assert (outcome.failed_files, outcome.untried_files) == (8, 0)
