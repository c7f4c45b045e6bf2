"""Names of logs, how long they are kept, and what keeps them from flooding."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from idcfs.mount.logs import FloodFilter, log_path, open_log

DAYS_S = 86_400.0


def test_every_mount_point_has_a_log_of_its_own() -> None:
    places = [
        Path(text) for text in ("/a/b-c", "/a-b/c", "/a/b/c", "/", "/\udcff", "/" + "x" * 255)
    ]
    paths = [log_path(Path("/log"), place) for place in places]
    assert len(set(paths)) == len(places)
    assert paths[0].name.startswith("b-c-")
    for path in paths:
        assert path.parent == Path("/log")
        assert len(os.fsencode(path.name)) <= 255


def test_logs_of_mounts_long_gone_are_removed(tmp_path: Path) -> None:
    mine, live, gone, recent = (
        log_path(tmp_path, Path(text)) for text in ("/mine", "/live", "/gone", "/recent")
    )
    for path in (mine, live, gone, recent, gone.with_name(f"{gone.name}.1")):
        path.touch()
        age_s = (10 if path == recent else 40) * DAYS_S
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    (tmp_path / "notes.txt").touch()
    open_log(mine, [Path("/live")]).close()
    assert set(tmp_path.iterdir()) == {mine, live, recent, tmp_path / "notes.txt"}


def test_a_log_that_cannot_be_opened_is_the_caller_s_to_tell(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        open_log(tmp_path / "file" / "x.log", [])


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_a_flood_is_cut_and_other_lines_are_not() -> None:
    handler, log = Lines(), logging.getLogger("flood")
    handler.addFilter(FloodFilter(lambda: 0.0))
    log.addHandler(handler)
    log.propagate = False
    try:
        for number in range(1000):
            log.warning("read: %d %% failed", number)
        log.warning("something else")
        assert len(handler.lines) == 21
        assert handler.lines[19] == "read: 19 % failed"
        assert handler.lines[20] == "something else"
    finally:
        log.removeHandler(handler)


def test_what_was_left_out_is_told_with_the_next_line() -> None:
    now_s = 0.0
    handler, log = Lines(), logging.getLogger("flood")
    handler.addFilter(FloodFilter(lambda: now_s))
    log.addHandler(handler)
    log.propagate = False
    try:
        for number in (*range(25), 60):
            now_s = float(number)
            log.warning("100%% of %d", number)
    finally:
        log.removeHandler(handler)
    assert len(handler.lines) == 21
    assert handler.lines[-1] == "100% of 60 (5 more like this one were left out before)"


def test_details_that_were_asked_for_are_not_cut() -> None:
    flood = FloodFilter(lambda: 0.0)
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "detail", (), None)
    assert all(flood.filter(record) for _ in range(100))
