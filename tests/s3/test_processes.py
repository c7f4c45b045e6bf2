"""A prefetch that several processes share: as one does it, and when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s3.test_prefetch import Prefetch, expected, read_report, selected
from tests.support.faults import FORBIDDEN, NOT_FOUND, SLOW_DOWN, Delay, Request
from tests.support.mounting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.proxy import FaultProxy
    from tests.support.replica import ServedReplica

COLLECTIONS = "acrin_flt_breast", "eay131", "lidc_idri", "rider_phantom_mri", "gbm_dsc_mri_dro"
"""Fourteen series: enough for each process to have some, however late it is ready."""

TOGETHER = "--processes=3"


@pytest.fixture
def prefetch(proxy: FaultProxy, tmp_path: Path) -> Prefetch:
    return Prefetch(proxy.endpoint_url, tmp_path)


def is_object(request: Request) -> bool:
    return request.is_object


def is_for(name: str) -> Callable[[Request], bool]:
    return lambda request: request.path.endswith(name)


def asked(proxy: FaultProxy) -> Counter[str]:
    """Return how often each object was asked for."""
    return Counter(each.request.path for each in proxy.log(is_object))


def companions(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that a prefetch has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process.pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.fixture
def slow(
    replica: ServedReplica, prefetch: Prefetch, proxy: FaultProxy, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """A prefetch by three processes, each of which has begun."""
    proxy.fail(Delay(0.3), when=is_object)
    process = subprocess.Popen(
        prefetch.command(
            selected(replica, *COLLECTIONS),
            *(f"--download-dir={prefetch.root}", TOGETHER, "--jobs=3"),
            f"--report={tmp_path / 'report'}",
        ),
        env=prefetch.launcher.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(
        lambda: sum(not each.done for each in proxy.log(is_object)) == 3,
        "each waits for a file: each has one job",
    )
    yield process
    process.kill()
    process.communicate()


def test_several_bring_what_one_would(
    replica: ServedReplica, prefetch: Prefetch, proxy: FaultProxy, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    command = (
        selected(replica, *COLLECTIONS),
        *(f"--download-dir={prefetch.root}", f"--report={report}", TOGETHER),
    )
    done = prefetch(*command)
    wanted = expected(replica, *COLLECTIONS)
    assert (done.returncode, done.stderr) == (0, "")
    assert prefetch.files() == wanted
    assert done.stdout.startswith(f"{len(wanted)} files fetched")
    assert set(asked(proxy).values()) == {1}
    *lines, last = read_report(report)
    assert sorted(line["path"] for line in lines) == sorted(
        str(prefetch.root / path) for path in wanted
    )
    assert {line["outcome"] for line in lines} == {"fetched"}
    assert last["summary"]["complete"]
    assert last["summary"]["fetched_files"] == last["summary"]["files"] == len(wanted)
    again = prefetch(*command)
    assert f"0 files fetched (0 bytes), {len(wanted)} were there already" in again.stdout


def test_several_fill_one_cache(
    replica: ServedReplica, prefetch: Prefetch, proxy: FaultProxy
) -> None:
    done = prefetch(selected(replica, *COLLECTIONS), TOGETHER)
    assert done.returncode == 0, done.stderr
    proxy.forget()
    done = prefetch(selected(replica, *COLLECTIONS), f"--download-dir={prefetch.root}")
    assert done.returncode == 0, done.stderr
    assert prefetch.files() == expected(replica, *COLLECTIONS)
    assert not proxy.log()


def test_series_that_share_directories_come_whole(
    replica: ServedReplica, prefetch: Prefetch
) -> None:
    done = prefetch(
        selected(replica, *COLLECTIONS),
        *(f"--download-dir={prefetch.root}", "--dir-template=%collection_id", TOGETHER),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(prefetch.files().values()) == sorted(expected(replica, *COLLECTIONS).values())


def test_what_fails_is_counted_whoever_meets_it(
    replica: ServedReplica, prefetch: Prefetch, proxy: FaultProxy, tmp_path: Path
) -> None:
    wanted = expected(replica, *COLLECTIONS)
    names = sorted(Path(path).name for path in wanted)
    lost = {names[0]: NOT_FOUND, names[-1]: FORBIDDEN, names[len(names) // 2]: NOT_FOUND}
    for name, fault in lost.items():
        proxy.fail(fault, when=is_for(name))
    proxy.fail(SLOW_DOWN, when=is_object, times=3)
    done = prefetch(
        selected(replica, *COLLECTIONS),
        *(f"--download-dir={prefetch.root}", f"--report={tmp_path / 'report'}", TOGETHER),
    )
    assert done.returncode == 1
    assert prefetch.files() == {
        path: md5 for path, md5 in wanted.items() if Path(path).name not in lost
    }
    told = [line for line in done.stderr.splitlines() if line.startswith("idcfs: /")]
    assert sorted(line.split(".dcm: ")[0].rpartition("/")[2] + ".dcm" for line in told) == sorted(
        lost
    )
    assert done.stderr.count("--script run.sh") == 1  # for the one that was refused
    assert done.stdout.startswith(f"{len(wanted) - 3} files fetched")
    summary = read_report(tmp_path / "report")[-1]["summary"]
    assert (summary["failed_files"], summary["untried_files"]) == (3, 0)


def test_a_store_that_is_not_there_is_given_up_once(prefetch: Prefetch, proxy: FaultProxy) -> None:
    chosen = "--collection-id=gbm_dsc_mri_dro"
    proxy.close()
    done = prefetch(chosen, f"--download-dir={prefetch.root}", TOGETHER)
    assert done.returncode == 1
    gave_up = [line for line in done.stderr.splitlines() if "gave up with" in line]
    assert len(gave_up) == 1
    assert "of them were not tried" in gave_up[0]


def test_of_a_process_that_is_killed_the_rest_has_failed(
    replica: ServedReplica,
    prefetch: Prefetch,
    proxy: FaultProxy,
    slow: subprocess.Popen[str],
    tmp_path: Path,
) -> None:
    started = companions(slow)
    assert len(started) == 2
    os.kill(started[0], signal.SIGKILL)
    proxy.clear()
    out, err = slow.communicate(timeout=120)
    assert slow.returncode == 1
    assert "the process that brought it was ended by signal 9" in err
    assert "Traceback" not in err
    wanted = expected(replica, *COLLECTIONS)
    there = {path for path in prefetch.files() if not path.endswith(".idcfs-part")}
    assert there < wanted.keys()
    summary = read_report(tmp_path / "report")[-1]["summary"]
    assert summary["fetched_files"] + summary["failed_files"] == len(wanted)
    # What it had finished but not yet told of is there too.
    assert summary["fetched_files"] <= len(there)
    assert out.startswith(f"{summary['fetched_files']} files fetched")
    again = prefetch(selected(replica, *COLLECTIONS), f"--download-dir={prefetch.root}")
    assert again.returncode == 0, again.stderr
    assert prefetch.files() == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_them_all_in_order(
    replica: ServedReplica,
    prefetch: Prefetch,
    proxy: FaultProxy,
    slow: subprocess.Popen[str],
    number: signal.Signals,
) -> None:
    started = companions(slow)
    if number == signal.SIGINT:  # as a terminal does, which sends it to all
        for pid in started:
            os.kill(pid, number)
    slow.send_signal(number)
    _, err = slow.communicate(timeout=60)
    assert slow.returncode == 130
    assert "the same command goes on from here" in err
    assert "was ended" not in err
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert not [path for path in prefetch.files() if path.endswith(".idcfs-part")]
    proxy.clear()
    again = prefetch(selected(replica, *COLLECTIONS), f"--download-dir={prefetch.root}")
    assert again.returncode == 0, again.stderr
    assert prefetch.files() == expected(replica, *COLLECTIONS)


def test_a_signal_to_all_of_them_is_no_failure(slow: subprocess.Popen[str]) -> None:
    started = companions(slow)
    for pid in started:  # `timeout` and batch systems send it to each, in any order
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not companions(slow), "the other processes end")
    slow.send_signal(signal.SIGTERM)
    _, err = slow.communicate(timeout=60)
    assert slow.returncode == 130
    assert "was ended" not in err
    assert err.count("\n") == 1, err


def test_one_that_does_not_end_in_order_is_ended(slow: subprocess.Popen[str]) -> None:
    started = companions(slow)
    os.kill(started[0], signal.SIGSTOP)
    slow.send_signal(signal.SIGTERM)
    _, err = slow.communicate(timeout=60)
    assert slow.returncode == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert err.count("\n") == 1, err


def test_what_the_others_log_looks_as_if_one_had(
    replica: ServedReplica, prefetch: Prefetch, proxy: FaultProxy
) -> None:
    proxy.fail(NOT_FOUND, when=is_object)
    done = prefetch(
        selected(replica, *COLLECTIONS),
        *(f"--download-dir={prefetch.root}", "--log-level=debug", TOGETHER),
    )
    lines = done.stderr.splitlines()
    told = [line for line in lines if " idcfs.prefetch.pipeline: s3://" in line]
    assert len(told) == len(expected(replica, *COLLECTIONS))
    assert not [line for line in lines if "DEBUG:" in line or line.count(" DEBUG ") > 1]
    assert lines.count("Traceback (most recent call last):") >= len(told)


def test_the_others_end_when_the_first_is_killed(slow: subprocess.Popen[str]) -> None:
    started = companions(slow)
    slow.kill()
    wait_until(
        lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in started),
        "the other processes end",
    )
    assert slow.communicate()[1] == ""
