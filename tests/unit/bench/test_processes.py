"""Programs are bounded, and end with us."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench.bench import check_files
from tests.bench.errors import BenchError, UnavailableError
from tests.bench.processes import Guarded, cpu_s, peak_bytes, run, run_well, tool
from tests.bench.readers import digest

if TYPE_CHECKING:
    from pathlib import Path

BURN = "import time\nwhile time.process_time() < 0.2: pass\nprint(input())"


def test_time_cpu_and_output_of_a_program(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", BURN], scratch=tmp_path, timeout_s=20, stdin="hello\n")
    assert (done.status, done.stdout, done.stderr) == (0, "hello\n", "")
    assert 0.2 <= done.cpu_s <= done.seconds + 0.1
    assert done.peak_bytes > 1 << 20


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"^sleep did not end within 0\.1 s$"):
        run(["sleep", "30"], scratch=tmp_path, timeout_s=0.1)


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"^sh ended with status 3: oh no$"):
        run_well(["sh", "-c", "echo oh no >&2; exit 3"], scratch=tmp_path, timeout_s=20)


def test_a_guarded_program_ends_when_told(tmp_path: Path) -> None:
    sleeper = Guarded(["sleep", "30"], log_path=tmp_path / "log")
    assert peak_bytes(sleeper.pid) > 0
    assert cpu_s(sleeper.pid) < 1
    sleeper.stop()
    assert not sleeper.running
    with pytest.raises(ProcessLookupError):
        os.kill(sleeper.pid, 0)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(UnavailableError, match="no-such-program is not installed"):
        tool("no-such-program")


def test_files_that_differ_are_missing_or_too_many_are_found(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "a").write_bytes(b"1")
    right = {"a": digest([b"1"])}
    check_files(tmp_path, right)
    for wrong in ({"a": digest([b"2"])}, {}, right | {"b": digest([b"2"])}):
        with pytest.raises(BenchError, match=r"not what the store holds|1 files are missing"):
            check_files(tmp_path, wrong)
