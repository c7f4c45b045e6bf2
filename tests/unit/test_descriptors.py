"""What is written to /dev/stdout and the like goes to the end of what is open, which stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from idcfs.api.writing import written
from idcfs.descriptors import names_descriptor, open_descriptor
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.report import ReportFile


def test_paths_that_stand_for_a_descriptor_are_known(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/stdout")
    (tmp_path / "file").touch()
    plain = tmp_path / "plain"
    plain.symlink_to("file")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for path in ("/dev/stdout", "/dev/fd/7", "/proc/self/fd/1", "/proc/thread-self/fd/1", link):
        assert names_descriptor(Path(path)), path
    for path in ("/dev/null", tmp_path / "file", plain, loop, tmp_path / "new", "new", "/", "-"):
        assert not names_descriptor(Path(path)), path


@pytest.mark.parametrize("flag", [os.O_APPEND, 0])
def test_what_was_there_stays(tmp_path: Path, flag: int) -> None:
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flag)
    try:
        os.write(fd, b"first\n")
        with written(Path(f"/dev/fd/{fd}")) as file:
            file.write("second\n")
        report = ReportFile(Path(f"/dev/fd/{fd}"))
        report.finish(Outcome(0, 0), 0.0)
        os.write(fd, b"last\n")
    finally:
        os.close(fd)
    first, second, summary, last = path.read_text().splitlines()
    assert (first, second, last) == ("first", "second", "last")
    assert summary.startswith('{"summary": ')
    assert os.listdir(tmp_path) == ["file"]


def test_what_another_process_has_open_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("first\n")
    with path.open("a") as file:
        other = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=file
        )
    try:
        fd = open_descriptor(Path(f"/proc/{other.pid}/fd/1"))
        os.write(fd, b"second\n")
        os.close(fd)
    finally:
        other.communicate(b"\n")
    assert path.read_text() == "first\nsecond\n"
