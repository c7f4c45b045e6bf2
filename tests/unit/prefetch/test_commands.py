"""The command that series are handed to: in order, ended when it must, and remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from idcfs.model import Instance, Listing
from idcfs.prefetch.batches import Streaming
from idcfs.prefetch.commands import Done, SeriesCommands
from idcfs.prefetch.outcome import Ending, Outcome
from tests.support.stores import in_trio, make_series

if TYPE_CHECKING:
    from pathlib import Path


def listing(number: int, *names: str) -> Listing:
    instances = tuple(Instance(name, 1, 0, "") for name in names)
    return Listing(make_series(number).uuid, instances)


def put(root: Path, directory: str, *names: str) -> None:
    (root / directory).mkdir(parents=True)
    for name in names:
        (root / directory / name).write_text("x")


def below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@in_trio
async def test_only_the_series_own_files_are_removed_and_what_that_leaves_empty(
    tmp_path: Path,
) -> None:
    put(tmp_path, "a/b/c", "1.dcm", "2.dcm")
    put(tmp_path, "a/d", "1.dcm", "mine")
    outcome = Outcome(0, 0)
    streaming = Streaming("test -d $SERIES_DIR", removes=True, batch_bytes=None)
    done = Done(tmp_path, streaming.command)
    commands = SeriesCommands(streaming, tmp_path, done, outcome, lambda _: None)
    async with commands.running() as take:
        take(make_series(1), "a/b/c", listing(1, "1.dcm", "2.dcm", "gone.dcm"))
        take(make_series(2), "a/d", listing(2, "1.dcm"))
    assert outcome.commands_done == 2
    assert outcome.failures == []
    assert below(tmp_path) == [done.path.name, "a", "a/d", "a/d/mine"]
    again = Done(tmp_path, streaming.command)
    assert make_series(1).uuid in again
    assert make_series(3).uuid not in again
    assert make_series(1).uuid not in Done(tmp_path, "another command")


@in_trio
async def test_a_command_that_cannot_run_or_is_killed_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a", "1.dcm")
    for command, words in (("no-such-program", "status 127"), ("kill -9 $$", "signal 9")):
        outcome = Outcome(0, 0)
        streaming = Streaming(command, removes=True, batch_bytes=None)
        noted = list[Ending]()
        done = Done(tmp_path, command)
        commands = SeriesCommands(streaming, tmp_path, done, outcome, noted.append)
        async with commands.running() as take:
            take(make_series(1), "a", listing(1, "1.dcm"))
        (failure,) = outcome.failures
        assert words in failure.reason
        assert str(tmp_path / "a") in failure.reason
        assert (tmp_path / "a/1.dcm").exists()
        (ending,) = noted
        assert (ending.told, ending.series) == ("failed", make_series(1).uuid)
        assert (ending.place, ending.reason) == (str(tmp_path / "a"), failure.reason)
        assert (outcome.commands_failed, outcome.failed_files) == (1, 0)


@in_trio
async def test_what_is_finished_after_a_stop_is_left_for_the_next_time(tmp_path: Path) -> None:
    outcome = Outcome(0, 0)
    streaming = Streaming("true", removes=False, batch_bytes=None)
    commands = SeriesCommands(streaming, tmp_path, Done(tmp_path, "true"), outcome, lambda _: None)
    async with commands.running() as take:
        commands.stop()
        await trio.testing.wait_all_tasks_blocked()
        take(make_series(1), "a", listing(1, "1.dcm"))
    assert outcome.commands_done == 0
    assert outcome.failures == []
