"""What a command finds out about a mount, by a program that does as the test says."""

from __future__ import annotations

from pathlib import Path

import pytest

from idcfs.mount import question
from idcfs.mount.question import Answer, Told, ask
from tests.support.mounting import DEADLINE_S

SOON_S = 1.0


@pytest.mark.parametrize("there_is_stat", [True, False])
def test_what_is_there_answers_and_what_is_not_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there_is_stat: bool
) -> None:
    if not there_is_stat:
        monkeypatch.setattr(question, "find_program", lambda: None)
    assert ask(tmp_path, DEADLINE_S) == Told(Answer.GIVEN)
    told = ask(tmp_path / "it: is missing", DEADLINE_S)
    assert told == Told(Answer.REFUSED, "No such file or directory")


def test_who_gets_no_answer_is_given_up_and_does_not_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "stat"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/started; exec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(question, "find_program", lambda: str(program))
    assert ask(tmp_path, SOON_S) == Told(Answer.MISSING, "no answer within 1 s")
    number = (tmp_path / "started").read_text().strip()
    assert not Path(f"/proc/{number}").exists()


def test_where_nobody_can_be_sent_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(question, "find_program", lambda: "/nowhere/stat")
    told = ask(tmp_path, DEADLINE_S)
    assert told.answer is Answer.UNKNOWN
    assert "No such file or directory" in told.reason
