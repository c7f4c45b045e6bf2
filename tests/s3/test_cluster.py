"""`idcfs prefetch --scheduler`: a Dask cluster fetches, and loses a worker half-way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]  # comes with distributed
import pytest

from tests.s3.test_prefetch import (
    COLLECTION,
    Prefetch,
    expected,
    hampered,
    prefetch,
    selected,
)
from tests.support.faults import NOT_FOUND, Stall
from tests.support.mounting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.proxy import FaultProxy
    from tests.support.replica import ServedReplica

__all__ = ["hampered", "prefetch"]  # fixtures

_CLUSTER = """
import json, sys
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        print(json.dumps([cluster.scheduler_address, pids]), flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[int]]]:
    """A scheduler's address, and the processes of its two workers, in a process of their own."""
    place = tmp_path_factory.mktemp("cluster")
    script = place / "cluster.py"
    script.write_text(_CLUSTER)
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, str(script)],
            cwd=place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (place / "log").read_text()
            yield tuple(json.loads(line))
            process.stdin.close()
            assert process.wait(60) == 0
        finally:
            process.kill()


def has_connection(pid: int, proxy: FaultProxy) -> bool:
    port = int(proxy.endpoint_url.rpartition(":")[2])
    connections = psutil.Process(pid).net_connections()
    return any(each.raddr and each.raddr.port == port for each in connections)


def summary(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *files, last = (json.loads(line) for line in path.read_text().splitlines())
    return files, last["summary"]


def test_each_workers_cache_is_filled_and_failures_are_told_as_ever(
    replica: ServedReplica,
    proxy: FaultProxy,
    hampered: Prefetch,
    cluster: tuple[str, list[int]],
) -> None:
    wanted = expected(replica, COLLECTION)
    lost = min(wanted).rpartition("/")[2]
    proxy.fail(NOT_FOUND, when=lambda request: request.path.endswith(lost))
    done = hampered(selected(replica, COLLECTION), f"--scheduler={cluster[0]}")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert lost in done.stderr
    assert done.stdout.startswith(f"{len(wanted) - 1} files fetched")
    proxy.clear()
    again = hampered(selected(replica, COLLECTION))
    assert again.stdout.startswith("1 files fetched")


def test_what_no_worker_can_do_is_in_the_report(
    replica: ServedReplica, prefetch: Prefetch, cluster: tuple[str, list[int]], tmp_path: Path
) -> None:
    report, no_cache = tmp_path / "report", tmp_path / "file"
    no_cache.touch()
    done = prefetch(
        selected(replica, COLLECTION),
        f"--scheduler={cluster[0]}",
        f"--cache-dir={no_cache}",
        f"--report={report}",
    )
    assert done.returncode == 1, done.stderr
    lines, figures = summary(report)
    wanted = {each.uuid for each in replica.series if each.collection_id == COLLECTION}
    assert {(line["series"], line["outcome"]) for line in lines} == {(u, "failed") for u in wanted}
    assert figures["failed_files"] == figures["files"] == len(expected(replica, COLLECTION))


def test_a_worker_that_is_killed_costs_time_only(
    replica: ServedReplica,
    proxy: FaultProxy,
    hampered: Prefetch,
    cluster: tuple[str, list[int]],
    tmp_path: Path,
) -> None:
    address, pids = cluster
    wanted = expected(replica, COLLECTION)
    report = tmp_path / "report"
    proxy.fail(Stall(after_bytes=1000), when=lambda request: request.is_object)
    process = subprocess.Popen(
        hampered.command(
            selected(replica, COLLECTION),
            f"--download-dir={hampered.root}",
            f"--scheduler={address}",
            f"--report={report}",
        ),
        env=hampered.launcher.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    busy: list[int] = []

    def find_busy() -> bool:
        busy[:] = [pid for pid in pids if has_connection(pid, proxy)]
        return bool(busy) and bool(proxy.log(lambda request: request.is_object))

    wait_until(find_busy, "a worker is in the midst of a file")
    os.kill(busy[0], 9)
    proxy.clear()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    assert hampered.files() == wanted
    files, figures = summary(report)
    assert sorted(each["path"] for each in files) == sorted(str(hampered.root / p) for p in wanted)
    assert figures["complete"]
    assert figures["fetched_files"] + figures["present_files"] == len(wanted)
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--scheduler=nonsense://x"], 2, "is no Dask scheduler's address"),
        (["--scheduler=tcp://127.0.0.1:port"], 2, "is no Dask scheduler's address"),
        (["--scheduler=tcp://127.0.0.1:9"], 1, "no Dask scheduler answers at tcp://127.0.0.1:9"),
        (["--scheduler=tcp://127.0.0.1:9", "--from-dir=/tmp"], 2, "--from-dir says something"),
    ],
)
def test_what_is_no_cluster_is_told_in_one_line(
    replica: ServedReplica, prefetch: Prefetch, arguments: list[str], status: int, message: str
) -> None:
    done = prefetch(selected(replica, COLLECTION), *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert message in done.stderr


def test_a_missing_package_is_named_with_its_extra(
    replica: ServedReplica, prefetch: Prefetch, tmp_path: Path
) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError")
    prefetch.launcher.environment["PYTHONPATH"] = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = prefetch(selected(replica, COLLECTION), "--scheduler=tcp://127.0.0.1:9")
    assert done.returncode == 2
    assert "pip install 'idcfs[dask]'" in done.stderr
    assert done.stderr.count("\n") == 1
