"""A prefetch that is interrupted ends at once, though the store has gone silent."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.s3.test_prefetch import COLLECTION, Prefetch, expected, selected
from tests.support.faults import Delay, Stall

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.faults import Request
    from tests.support.proxy import FaultProxy
    from tests.support.replica import ServedReplica

SOON_S = 8.0
"""Half a second here; what waits for a timeout of the store takes 20 s and more."""


@pytest.fixture
def prefetch(proxy: FaultProxy, tmp_path: Path) -> Prefetch:
    return Prefetch(proxy.endpoint_url, tmp_path)


def start(prefetch: Prefetch, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        prefetch.command(*arguments, f"--download-dir={prefetch.root}"),
        env=prefetch.launcher.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """Send a signal; return what it said, once it has ended soon."""
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=SOON_S)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.startswith("idcfs: interrupted with"), err
    assert err.count("\n") == 1, err
    return out, err


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("after_bytes", [0, 1000])
def test_small_files_that_stall(
    replica: ServedReplica, proxy: FaultProxy, prefetch: Prefetch, processes: int, after_bytes: int
) -> None:
    proxy.fail(Stall(after_bytes), when=lambda request: request.is_object)
    chosen = selected(replica, COLLECTION)
    process = start(prefetch, chosen, f"--processes={processes}")
    proxy.wait_for(lambda p: len(p.log(lambda request: request.is_object)) >= 8, timeout_s=60)
    out, _ = ended(process, signal.SIGINT)
    assert out.startswith("0 files fetched")
    assert prefetch.files() == {}
    proxy.clear()
    assert prefetch(chosen, f"--download-dir={prefetch.root}").returncode == 0
    assert prefetch.files() == expected(replica, COLLECTION)


def test_a_listing_that_stalls(
    replica: ServedReplica, proxy: FaultProxy, prefetch: Prefetch
) -> None:
    proxy.fail(Delay(60), when=lambda request: not request.is_object)
    process = start(prefetch, selected(replica, COLLECTION))
    proxy.wait_for(lambda p: bool(p.log()), timeout_s=60)
    ended(process, signal.SIGTERM)


def test_what_came_of_a_large_file_is_kept(
    replica: ServedReplica, proxy: FaultProxy, prefetch: Prefetch
) -> None:
    slide = replica.one("SM")

    def is_first(request: Request) -> bool:
        return (request.range or "").startswith("bytes=0-")

    def is_other(request: Request) -> bool:
        return request.range is not None and not is_first(request)

    proxy.fail(Stall(1000), when=is_first)
    arguments = slide.uuid, "--dir-template=", "--jobs=4"
    process = start(prefetch, *arguments)
    proxy.wait_for(lambda p: len(p.log(is_other)) >= 8, timeout_s=60)
    ended(process, signal.SIGINT)
    kept = set[tuple[str, int]]()
    for record in prefetch.root.glob(".*.idcfs-runs"):
        title, *runs = record.read_text().splitlines()
        key = json.loads(title)["url"].removeprefix("s3:/")
        kept |= {(key, int(run.split()[0])) for run in runs}
    assert kept
    proxy.clear()
    proxy.forget()
    again = prefetch(*arguments, f"--download-dir={prefetch.root}")
    assert again.returncode == 0, again.stderr
    asked = {
        (each.request.path, int(each.request.range.removeprefix("bytes=").split("-")[0]))
        for each in proxy.log()
        if each.request.range is not None
    }
    assert asked
    assert not asked & kept
    assert set(prefetch.files().values()) == {each.md5 for each in replica.objects_of(slide)}
