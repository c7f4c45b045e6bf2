"""What comes of asking a mount, by a program that does as the test says."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.mount.probe import Probe
from idcfs.mount.question import Answer, Told
from tests.support.mounting import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOON_S = 0.2


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Probe]:
    """Make a probe whose program is a script."""

    def make(script: str) -> Probe:
        program = tmp_path / "stat"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return Probe(tmp_path / "the mount", program=str(program))

    return make


def asked(probe: Probe, patience_s: float = DEADLINE_S) -> Told:
    return trio.run(probe.ask, patience_s)


def test_what_is_there_answers_and_what_is_not_does_not(tmp_path: Path) -> None:
    assert asked(Probe(tmp_path)) == Told(Answer.GIVEN)
    missing = Probe(tmp_path / "it: is missing")
    assert asked(missing) == Told(Answer.REFUSED, "No such file or directory")


def test_it_asks_what_the_kernel_does_not_know(made: Callable[[str], Probe]) -> None:
    told = asked(made('echo "$@" >&2; exit 3'))
    assert told.answer is Answer.UNKNOWN
    assert told.reason.startswith("-f -- /")
    assert told.reason.endswith("/the mount")


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 127", "stat ended with 127"), ("kill -KILL $$", "stat ended with -9")],
)
def test_a_program_that_comes_to_nothing_says_nothing_of_the_mount(
    made: Callable[[str], Probe], script: str, reason: str
) -> None:
    assert asked(made(script)) == Told(Answer.UNKNOWN, reason)


@pytest.mark.parametrize(
    "failure",
    [
        BlockingIOError(11, "Resource temporarily unavailable"),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_where_no_process_can_be_had_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "Popen", fail)
    assert asked(Probe(tmp_path)) == Told(Answer.UNKNOWN, str(failure))


def test_where_there_is_no_program_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert asked(Probe(tmp_path)) == Told(Answer.UNKNOWN, "there is no program `stat`")
    assert asked(Probe(tmp_path, program=str(tmp_path / "gone"))).answer is Answer.UNKNOWN


def test_one_that_gets_no_answer_is_given_up_and_does_not_stay(
    made: Callable[[str], Probe], tmp_path: Path
) -> None:
    probe = made(f"echo $$ >> {tmp_path}/started; exec sleep 1000")

    async def ask() -> Told:
        told = await probe.ask(SOON_S)
        (number,) = (tmp_path / "started").read_text().split()
        for process in probe._waiting:
            assert process.pid == int(number)
            await process.wait()
        return told

    assert trio.run(ask) == Told(Answer.MISSING, "no answer within 0 s")


def test_nobody_is_sent_after_one_who_cannot_come_back(
    made: Callable[[str], Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one cannot whose request a daemon has taken that hangs."""
    probe = made(f"echo $$ >> {tmp_path}/started; exec sleep 1000")
    kill = trio.Process.kill

    async def ask() -> None:
        monkeypatch.setattr(trio.Process, "kill", lambda process: None)
        for _ in range(3):
            assert (await probe.ask(SOON_S)).answer is Answer.MISSING
        (left,) = probe._waiting
        assert (tmp_path / "started").read_text().split() == [str(left.pid)]
        monkeypatch.setattr(trio.Process, "kill", kill)
        left.kill()
        wait_until(lambda: left.poll() is not None, "it is gone")
        assert (await probe.ask(SOON_S)).answer is Answer.MISSING
        (another,) = probe._waiting
        assert another is not left
        await another.wait()

    trio.run(ask)


def test_who_no_longer_wants_to_know_waits_for_nobody(made: Callable[[str], Probe]) -> None:
    probe = made("exec sleep 1000")

    async def ask() -> None:
        with trio.fail_after(DEADLINE_S):
            with trio.move_on_after(SOON_S):
                await probe.ask(DEADLINE_S)
            (left,) = probe._waiting
            await left.wait()

    trio.run(ask)
