"""How lines of the log look where systemd's journal reads them, and elsewhere."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_journal", [True, False])
def test_the_journal_gets_priorities_and_others_the_time(
    settings: Path, tmp_path: Path, is_journal: bool
) -> None:
    launcher = Launcher()
    with (tmp_path / "log").open("wb") as log:
        status = (tmp_path / "log").stat()
        stream = f"{status.st_dev}:{status.st_ino if is_journal else status.st_ino + 1}"
        subprocess.run(
            launcher.command("--log-level", "debug", "size", "--collection-id", "nowhere"),
            env={**launcher.environ(), "JOURNAL_STREAM": stream},
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,
        )
    told, *logged = (tmp_path / "log").read_text().splitlines()
    assert told.startswith("idcfs: ")
    assert "Traceback" in logged[1]
    if is_journal:
        assert logged[0].startswith("<7>idcfs.cli.main: the error came from here")
        assert all(line.startswith("<7>") for line in logged)
    else:
        assert re.match(r"\d{4}-\d\d-\d\d [\d:,]+ DEBUG idcfs\.cli\.main: ", logged[0])
        assert not any(line.startswith("<") for line in logged)
