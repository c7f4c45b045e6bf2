"""`idcfs refresh`, while the mount takes its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.mounting import DEADLINE_S, REPOSITORY, wait_until

if TYPE_CHECKING:
    from pathlib import Path

REFRESH = """
import pathlib, sys
from idcfs.cli import main
from idcfs.mount import mountpoints
mountpoints.find_own = pathlib.Path
mountpoints.refuse_to_hang = print
main.main()
"""


def test_ctrl_c_while_it_waits_is_an_interruption(settings: Path, tmp_path: Path) -> None:
    (tmp_path / ".idcfs").mkdir()
    answer = tmp_path / ".idcfs" / "refresh"
    os.mkfifo(answer)
    writers = []

    def is_asked() -> bool:
        try:
            writers.append(os.open(answer, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads it yet
            return False
        return True

    with subprocess.Popen(
        [sys.executable, "-c", REFRESH, "refresh", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(is_asked, "it asks the mount")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.wait(DEADLINE_S) == 130
        assert process.stderr.read().strip() == "idcfs: interrupted"
    os.close(writers[0])
