"""A prefetch from a server that fails in every way: what it brings, says and reports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from idcfs.config import PATH_VARIABLE
from tests.support.faults import (
    FORBIDDEN,
    NOT_FOUND,
    SLOW_DOWN,
    Corrupt,
    Cut,
    Delay,
    Reset,
    Shorten,
    Stall,
)
from tests.support.impatient import ATTEMPTS, TRIES
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.faults import Fault, Request
    from tests.support.replica import ServedReplica

PROJECT = Path(__file__).parents[2]

PASSING: list[tuple[Fault, int]] = [
    (SLOW_DOWN, ATTEMPTS + 1),  # more than the store puts up with by itself
    (Reset(1000), 2),
    (Stall(1000), 1),
    (Shorten(10), 1),
    (Cut(100), 1),
    (Corrupt(), 2),
]
"""Faults, and how often each befalls its object."""

LASTING: list[tuple[Fault, str, int]] = [
    (FORBIDDEN, "refused (403 AccessDenied)", 2),
    (NOT_FOUND, "has no such object or bucket (404 NoSuchKey)", 2),
    (Corrupt(), "the content's MD5 is", 3),
    (SLOW_DOWN, "is overloaded or out of order (503 SlowDown)", ATTEMPTS * TRIES),
    (Stall(), "stopped answering", ATTEMPTS * TRIES),
    (Reset(10), "the connection to", ATTEMPTS * TRIES),
]
"""Faults, what is said of each, and how often its object is asked for; what is refused, once
more through botocore, which can tell why."""


@dataclass
class Prefetch:
    """The command, through the proxy."""

    replica: ServedReplica
    proxy: FaultProxy
    base: Path

    @property
    def root(self) -> Path:
        return self.base / "download"

    def start(self) -> subprocess.Popen[str]:
        chosen = [s.uuid for s in self.replica.series if s.collection_id == "eay131"]
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.impatient", "prefetch", ",".join(chosen)),
                *(
                    f"--endpoint-url={self.proxy.endpoint_url}",
                    f"--cache-dir={self.base / 'cache'}",
                ),
                *(f"--download-dir={self.root}", "--dir-template=", "--jobs=4"),
                f"--report={self.base / 'report'}",
            ],
            cwd=PROJECT,
            env={**os.environ, PATH_VARIABLE: os.devnull},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> tuple[int, str]:
        """Return the exit status and what was said on standard error."""
        process = self.start()
        _, err = process.communicate(timeout=120)
        return process.returncode, err

    def report(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Return the lines of files by name, and the summary."""
        *lines, last = map(json.loads, (self.base / "report").read_text().splitlines())
        return {line["url"].rpartition("/")[2]: line for line in lines}, last["summary"]

    def wanted(self) -> dict[str, bytes]:
        """Return what should come, by file name."""
        return {
            built.path.name: built.path.read_bytes()
            for series in self.replica.series
            if series.collection_id == "eay131"
            for built in self.replica.objects_of(series)
        }

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.iterdir()}


@pytest.fixture
def prefetch(replica: ServedReplica, tmp_path: Path) -> Iterator[Prefetch]:
    with FaultProxy(replica.endpoint_url) as proxy:
        yield Prefetch(replica, proxy, tmp_path)


def test_the_report_and_the_status_tell_exactly_what_happened(prefetch: Prefetch) -> None:
    wanted, proxy = prefetch.wanted(), prefetch.proxy
    names = iter(sorted(name for name, content in wanted.items() if len(content) > 2000))
    proxy.fail(SLOW_DOWN, when=lambda request: not request.is_object, times=2)
    for fault, times in PASSING:
        proxy.fail(fault, when=is_for(next(names)), times=times)
    lost = {}
    for fault, reason, asked in LASTING:
        name = next(names)
        lost[name] = reason, asked
        proxy.fail(fault, when=is_for(name))
    status, err = prefetch.run()
    assert status == 1
    lines, summary = prefetch.report()
    told = [line for line in err.splitlines() if line.startswith(f"idcfs: {prefetch.root}")]
    assert len(told) == len(lost)
    for name, (reason, asked) in lost.items():
        assert lines[name]["outcome"] == "failed"
        assert reason in lines[name]["reason"]
        assert f"idcfs: {prefetch.root / name}: {lines[name]['reason']}" in told
        assert len(proxy.log(is_for(name))) == asked
    assert {name for name, line in lines.items() if line["outcome"] == "fetched"} == (
        wanted.keys() - lost.keys()
    )
    assert prefetch.files() == {n: content for n, content in wanted.items() if n not in lost}
    assert (summary["failed_files"], summary["untried_files"]) == (len(lost), 0)
    assert err.count("--script run.sh") == 1  # for the one that was refused
    proxy.clear()
    status, err = prefetch.run()
    assert status == 0, err
    assert "idcfs: " not in err
    lines, summary = prefetch.report()
    assert {name for name, line in lines.items() if line["outcome"] == "fetched"} == lost.keys()
    assert summary["complete"]
    assert prefetch.files() == wanted


def is_for(name: str) -> Callable[[Request], bool]:
    return lambda request: request.path.endswith(name)


def test_a_server_that_goes_away_is_waited_for(
    prefetch: Prefetch, request: pytest.FixtureRequest
) -> None:
    def is_object(request: Request) -> bool:
        return request.is_object

    assert len(prefetch.wanted()) > 20
    prefetch.proxy.fail(Delay(0.3), when=is_object)  # so that it is far from done
    process = prefetch.start()
    request.addfinalizer(process.kill)  # harmless when it has ended
    assert process.stderr is not None
    prefetch.proxy.wait_for(lambda proxy: len(proxy.log(is_object)) >= 5, timeout_s=60)
    prefetch.proxy.close()
    told = ""
    while not re.search(r"nothing has come from the store for \d s; trying on \(cannot", told):
        told = process.stderr.readline()  # a slow machine may have said so before
        assert told, "it ended without waiting"
    prefetch.proxy.clear()
    prefetch.proxy.open()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert prefetch.files() == prefetch.wanted()
