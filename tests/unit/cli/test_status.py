"""What `idcfs status` does where a mount gives no answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.cli import status
from idcfs.mount import question

if TYPE_CHECKING:
    import pytest


def test_whoever_was_sent_to_ask_is_gone_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "stat"
    program.write_text(
        '#!/bin/sh\nfor place; do :; done; echo $$ > "$place.asks"; exec sleep 1000\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(question, "find_program", lambda: str(program))
    monkeypatch.setattr(status, "_PATIENCE_S", 1.0)
    places = [tmp_path / str(number) for number in range(4)]
    told = status._read_all(places)
    assert {each["error"] for each in told} == {"it does not answer within 1 s"}
    started = [Path(f"{place}.asks").read_text().strip() for place in places]
    assert [number for number in started if Path(f"/proc/{number}").exists()] == []
