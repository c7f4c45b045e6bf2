"""`idcfs prefetch` as a user runs it, against the replica, well served and badly."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from idcfs.config import PATH_VARIABLE
from idcfs.prefetch.concurrency import FIRST
from tests.support.faults import NOT_FOUND, Answer, Corrupt, Request, Reset, Stall
from tests.support.mounting import Launcher, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.proxy import FaultProxy
    from tests.support.replica import ServedReplica

COLLECTION = "eay131"
"""Small series of two patients in the replica."""


class Prefetch:
    """The command with what all tests give it."""

    def __init__(self, endpoint_url: str, base: Path) -> None:
        self.launcher = Launcher(environment={PATH_VARIABLE: os.devnull})
        self.root = base / "download"
        self.cache = base / "cache"
        self.options = [f"--endpoint-url={endpoint_url}", f"--cache-dir={self.cache}"]

    def command(self, *arguments: str) -> list[str]:
        return self.launcher.command("prefetch", *self.options, *arguments)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.launcher.run("prefetch", *self.options, *arguments)

    def files(self) -> dict[str, str]:
        """Return the MD5 of every file in the download directory, hidden ones too."""
        return {
            str(path.relative_to(self.root)): hashlib.md5(path.read_bytes()).hexdigest()
            for path in self.root.rglob("*")
            if path.is_file()
        }


def read_report(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a report."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


@pytest.fixture
def prefetch(replica: ServedReplica, tmp_path: Path) -> Prefetch:
    return Prefetch(replica.endpoint_url, tmp_path)


@pytest.fixture
def hampered(proxy: FaultProxy, tmp_path: Path) -> Prefetch:
    """Prefetch through the proxy."""
    return Prefetch(proxy.endpoint_url, tmp_path)


def expected(replica: ServedReplica, *collections: str) -> dict[str, str]:
    """Return the MD5 of each file of these collections, by default path."""
    return {
        f"{series.collection_id}/{series.patient_id}/{series.study_instance_uid}/"
        f"{series.modality}_{series.series_instance_uid}/{built.key.split('/')[1]}": built.md5
        for series in replica.series
        if series.collection_id in collections
        for built in replica.objects_of(series)
    }


def selected(replica: ServedReplica, *collections: str) -> str:
    """Return the identifiers of the series that the replica has of these collections."""
    return ",".join(s.uuid for s in replica.series if s.collection_id in collections)


def test_a_download_is_the_tree_of_the_mount(replica: ServedReplica, prefetch: Prefetch) -> None:
    wanted = "rider_phantom_mri", "gbm_dsc_mri_dro"
    done = prefetch(selected(replica, *wanted), f"--download-dir={prefetch.root}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert prefetch.files() == expected(replica, *wanted)
    count = len(prefetch.files())
    assert done.stdout.startswith(f"{count} files fetched")
    assert done.stdout.count("\n") == 1
    again = prefetch(selected(replica, *wanted), f"--download-dir={prefetch.root}")
    assert f"0 files fetched (0 bytes), {count} were there already" in again.stdout


def test_a_file_that_is_there_with_other_bytes_is_fetched_again(
    replica: ServedReplica, prefetch: Prefetch
) -> None:
    chosen = selected(replica, COLLECTION)
    assert prefetch(chosen, f"--download-dir={prefetch.root}").returncode == 0
    damaged = next(path for path in prefetch.root.rglob("*.dcm"))
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 0xFF
    damaged.write_bytes(content)
    by_length = prefetch(chosen, f"--download-dir={prefetch.root}", "--verify=length")
    assert by_length.stdout.startswith("0 files fetched")
    again = prefetch(chosen, f"--download-dir={prefetch.root}")
    assert again.stdout.startswith("1 files fetched")
    assert prefetch.files() == expected(replica, COLLECTION)


def test_a_slide_of_many_megabytes_arrives(replica: ServedReplica, prefetch: Prefetch) -> None:
    slide = replica.one("SM")
    done = prefetch(slide.uuid, f"--download-dir={prefetch.root}", "--dir-template", "")
    assert done.returncode == 0, done.stderr
    assert sorted(prefetch.files().values()) == sorted(
        built.md5 for built in replica.objects_of(slide)
    )


def test_a_manifest_is_fetched_as_given(replica: ServedReplica, prefetch: Prefetch) -> None:
    path = prefetch.cache.with_name("manifest.txt")
    chosen = [series for series in replica.series if series.collection_id == COLLECTION]
    path.write_text("".join(f"s3://{s.bucket}/{s.uuid}/*\n" for s in chosen) + "broken\n")
    done = prefetch(str(path), f"--download-dir={prefetch.root}")
    assert prefetch.files() == expected(replica, COLLECTION)
    assert done.returncode == 1  # for the broken line
    assert f"{path}, line {len(chosen) + 1}: " in done.stderr


def test_selection_options_narrow(replica: ServedReplica, prefetch: Prefetch) -> None:
    done = prefetch(
        selected(replica, COLLECTION), "--modality=RTSTRUCT", f"--download-dir={prefetch.root}"
    )
    assert done.returncode == 0, done.stderr
    wanted = {k: v for k, v in expected(replica, COLLECTION).items() if "/RTSTRUCT_" in k}
    assert prefetch.files() == wanted


def test_the_cache_then_needs_no_server(own_replica: ServedReplica, tmp_path: Path) -> None:
    prefetch = Prefetch(own_replica.endpoint_url, tmp_path)
    chosen = selected(own_replica, COLLECTION)
    assert prefetch(chosen).returncode == 0
    own_replica.store.stop()
    done = prefetch(chosen, "--verify=full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 files fetched")
    assert not prefetch.root.exists()


def test_a_dry_run_tells_and_touches_nothing(replica: ServedReplica, prefetch: Prefetch) -> None:
    done = prefetch(selected(replica, COLLECTION), f"--download-dir={prefetch.root}", "--dry-run")
    assert done.returncode == 0, done.stderr
    count = len(expected(replica, COLLECTION))
    words = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in words] == ["series", "files", "size", "free"]
    assert words[1][1] == str(count)
    assert not prefetch.root.exists()
    assert not prefetch.cache.exists()


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_what_the_disk_cannot_hold_is_refused(prefetch: Prefetch, arguments: list[str]) -> None:
    assert shutil.disk_usage(prefetch.cache.parent).free < 10**13
    done = prefetch("nlst", f"--download-dir={prefetch.root}", *arguments)
    assert done.returncode == 1
    assert "select less, or name another disk with --download-dir" in done.stderr
    assert not prefetch.root.exists()


def test_nothing_asked_for_is_a_usage_error(prefetch: Prefetch) -> None:
    done = prefetch()
    assert done.returncode == 2
    assert "say what to fetch" in done.stderr


def test_a_directory_that_cannot_be_made_is_reported(
    replica: ServedReplica, prefetch: Prefetch
) -> None:
    in_the_way = prefetch.root
    in_the_way.write_text("a file")
    done = prefetch(selected(replica, COLLECTION), f"--download-dir={in_the_way / 'below'}")
    assert done.returncode == 2
    assert "Not a directory" in done.stderr


def test_each_file_that_cannot_be_had_is_named(
    replica: ServedReplica, proxy: FaultProxy, hampered: Prefetch
) -> None:
    wanted = expected(replica, COLLECTION)
    lost = sorted(wanted)[3]
    proxy.fail(NOT_FOUND, when=lambda request: request.path.endswith(Path(lost).name))
    done = hampered(selected(replica, COLLECTION), f"--download-dir={hampered.root}")
    assert done.returncode == 1
    assert f"idcfs: {hampered.root / lost}: cannot read s3://" in done.stderr
    assert hampered.files() == {path: md5 for path, md5 in wanted.items() if path != lost}
    proxy.clear()
    done = hampered(selected(replica, COLLECTION), f"--download-dir={hampered.root}")
    assert done.returncode == 0
    assert done.stdout.startswith("1 files fetched")
    assert hampered.files() == wanted


def test_a_series_that_cannot_be_listed_is_named(
    replica: ServedReplica, proxy: FaultProxy, hampered: Prefetch
) -> None:
    refused = next(s for s in replica.series if s.collection_id == COLLECTION)
    proxy.fail(Answer(403, "AccessDenied"), when=lambda request: refused.uuid in request.query)
    done = hampered(selected(replica, COLLECTION), f"--download-dir={hampered.root}")
    assert done.returncode == 1
    assert f"idcfs: series {refused.uuid}: cannot list s3://" in done.stderr
    assert done.stderr.count("--script run.sh") == 1
    left_out = f"{refused.modality}_{refused.series_instance_uid}/"
    wanted = expected(replica, COLLECTION).items()
    assert hampered.files() == {path: md5 for path, md5 in wanted if left_out not in path}


@pytest.mark.parametrize("into_cache", [False, True])
def test_the_report_has_each_file_and_what_became_of_it(
    replica: ServedReplica,
    proxy: FaultProxy,
    hampered: Prefetch,
    tmp_path: Path,
    into_cache: bool,
) -> None:
    wanted = expected(replica, COLLECTION)
    lost = sorted(wanted)[3]
    path = tmp_path / "report.jsonl"
    path.write_text("of an earlier run\n")
    arguments = [selected(replica, COLLECTION), f"--report={path}"]
    arguments += [] if into_cache else [f"--download-dir={hampered.root}"]
    proxy.fail(NOT_FOUND, when=lambda request: request.path.endswith(Path(lost).name))
    assert hampered(*arguments).returncode == 1
    *lines, last = read_report(path)
    told = {line["url"].rpartition("/")[2]: line for line in lines}
    assert len(lines) == len(told) == len(wanted)
    for where, md5 in wanted.items():
        line = told[Path(where).name]
        failed = where == lost
        assert line["path"] == (None if into_cache else str(hampered.root / where))
        assert line["url"].split("/")[3:] == [line["series"], Path(where).name]
        assert line["outcome"] == ("failed" if failed else "fetched")
        assert line["checksum"] == (None if failed else {"md5": md5})
        if failed:
            assert "has no such object" in line["reason"]
        else:
            assert line["reason"] is None
        if not (into_cache or failed):
            assert line["bytes"] == (hampered.root / where).stat().st_size
    summary = last["summary"]
    assert (summary["files"], summary["failed_files"]) == (len(wanted), 1)
    assert (summary["fetched_files"], summary["complete"]) == (len(wanted) - 1, False)
    proxy.clear()
    assert hampered(*arguments).returncode == 0
    *lines, last = read_report(path)
    outcomes = [line["outcome"] for line in lines]
    assert (outcomes.count("present"), outcomes.count("fetched")) == (len(wanted) - 1, 1)
    assert last["summary"]["complete"]


@pytest.mark.parametrize("into_cache", [False, True])
def test_what_is_there_is_rechecked_and_mended(
    replica: ServedReplica, prefetch: Prefetch, tmp_path: Path, into_cache: bool
) -> None:
    report = tmp_path / "report.jsonl"
    arguments = [selected(replica, COLLECTION), "--recheck", f"--report={report}"]
    arguments += [] if into_cache else [f"--download-dir={prefetch.root}"]
    assert prefetch(*arguments, "--verify=length").returncode == 0
    place = prefetch.cache / "objects" if into_cache else prefetch.root
    right = {path: path.read_bytes() for path in sorted(place.rglob("*.dcm"))}
    changed, cut, lost = list(right)[1:4]
    changed.write_bytes(right[changed][:-1] + b"?")
    cut.write_bytes(right[cut][:-1])
    lost.unlink()
    harmed = {path: path.read_bytes() for path in right if path.exists()}

    done = prefetch(*arguments, "--dry-run")
    assert done.returncode == 1
    assert done.stdout.startswith(f"{len(right) - 3} files are right (")
    told = {line["url"].rpartition("/")[2]: line for line in read_report(report)[:-1]}
    outcomes = {name: line["outcome"] for name, line in told.items()}
    not_right = dict.fromkeys((path.name for path in (changed, cut, lost)), "failed")
    assert outcomes == {path.name: "present" for path in right} | not_right
    assert told[lost.name]["reason"] == "is not there"
    if not into_cache:
        assert f"{cut}: has {len(right[cut]) - 1:,} bytes, the object in the store" in done.stderr
        assert "the content's MD5 is" in told[changed.name]["reason"]
    assert {path: path.read_bytes() for path in right if path.exists()} == harmed

    done = prefetch(*arguments)
    assert done.returncode == 0, done.stderr
    assert "of them in place of wrong ones" in done.stdout
    outcomes = {
        line["url"].rpartition("/")[2]: line["outcome"] for line in read_report(report)[:-1]
    }
    assert outcomes[changed.name] == "replaced"
    # Of an object that is too short the cache says that it has it not.
    assert outcomes[cut.name] == ("fetched" if into_cache else "replaced")
    assert {path: path.read_bytes() for path in right} == right
    assert prefetch(*arguments, "--dry-run").returncode == 0


def test_a_directory_that_is_not_there_cannot_be_rechecked(
    replica: ServedReplica, prefetch: Prefetch
) -> None:
    into = f"--download-dir={prefetch.root}"
    done = prefetch(selected(replica, COLLECTION), into, "--recheck", "--dry-run")
    assert done.returncode == 2
    assert f"there is no directory {prefetch.root} to check" in done.stderr
    done = prefetch(selected(replica, COLLECTION), into, "--recheck", "--exec=true")
    assert done.returncode == 2
    assert not prefetch.root.exists()


def test_a_report_that_cannot_be_written(replica: ServedReplica, prefetch: Prefetch) -> None:
    chosen = selected(replica, COLLECTION)
    into = f"--download-dir={prefetch.root}"
    done = prefetch(chosen, into, "--report=/nowhere/report")
    assert done.returncode == 2
    assert "cannot write the report /nowhere/report: No such file" in done.stderr
    assert prefetch.files() == {}
    done = prefetch(chosen, into, "--report=/dev/full")
    assert done.returncode == 1
    assert done.stderr.count("/dev/full: cannot write the report: No space left on device") == 1
    assert prefetch.files() == expected(replica, COLLECTION)


def test_a_rate_is_kept_to(replica: ServedReplica, prefetch: Prefetch) -> None:
    wanted = expected(replica, COLLECTION)
    size = sum(
        built.size_bytes
        for series in replica.series
        if series.collection_id == COLLECTION
        for built in replica.objects_of(series)
    )
    rate = size // 2
    into = f"--download-dir={prefetch.root}"
    started_s = time.monotonic()
    done = prefetch(selected(replica, COLLECTION), into, f"--limit-rate={rate}")
    assert done.returncode == 0, done.stderr
    assert prefetch.files() == wanted
    assert time.monotonic() - started_s >= size / rate
    done = prefetch(selected(replica, COLLECTION), into, "--limit-rate=80%")
    assert done.returncode == 2
    assert "'80%' is not a rate: write bytes a second" in done.stderr


def first_time(share: int, of: int = 3) -> Callable[[Request], bool]:
    """Return a predicate for the first request of every third object, or of another share."""
    seen: set[str] = set()

    def is_due(request: Request) -> bool:
        path = request.path
        if not request.is_object or path in seen or sum(path.encode()) % of != share:
            return False
        seen.add(path)
        return True

    return is_due


def test_a_bad_link_costs_time_only(
    replica: ServedReplica, proxy: FaultProxy, hampered: Prefetch
) -> None:
    proxy.fail(Reset(1000), when=first_time(0))
    proxy.fail(Corrupt(), when=first_time(1))
    proxy.fail(Answer(503, "SlowDown"), when=first_time(2))
    done = hampered(selected(replica, COLLECTION), f"--download-dir={hampered.root}")
    assert done.returncode == 0, done.stderr
    wanted = expected(replica, COLLECTION)
    assert hampered.files() == wanted
    assert len(proxy.log(lambda request: request.is_object)) == 2 * len(wanted)


def test_a_store_that_asks_for_less_is_asked_less(
    replica: ServedReplica, proxy: FaultProxy, hampered: Prefetch
) -> None:
    proxy.fail(Answer(503, "SlowDown"), when=first_time(0, of=1))
    wanted = selected(replica, COLLECTION)
    done = hampered(wanted, f"--download-dir={hampered.root}", "--log-level=debug")
    assert done.returncode == 0, done.stderr
    assert f"{FIRST // 2} transfers at once from now on" in done.stderr
    assert hampered.files() == expected(replica, COLLECTION)


@pytest.mark.parametrize("into_cache", [False, True])
def test_ctrl_c_stops_in_order(
    replica: ServedReplica, proxy: FaultProxy, hampered: Prefetch, into_cache: bool
) -> None:
    proxy.fail(Stall(after_bytes=2000), when=lambda request: request.is_object)
    arguments = [] if into_cache else [f"--download-dir={hampered.root}"]
    process = subprocess.Popen(
        hampered.command(selected(replica, COLLECTION), *arguments),
        env=hampered.launcher.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    proxy.wait_for(lambda p: len(p.log(lambda request: request.is_object)) >= 8, timeout_s=60)
    process.send_signal(signal.SIGINT)
    proxy.clear()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "files fetched" in out
    assert "interrupted with" in err
    assert "Traceback" not in err
    wanted = expected(replica, COLLECTION)
    assert hampered.files().items() <= wanted.items()
    assert not list((hampered.cache / "scratch").rglob("*.*"))
    done = hampered(selected(replica, COLLECTION), *arguments)
    assert done.returncode == 0, done.stderr


def test_a_bar_is_drawn_on_a_terminal_only(replica: ServedReplica, prefetch: Prefetch) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        prefetch.command(selected(replica, COLLECTION), f"--download-dir={prefetch.root}"),
        env=prefetch.launcher.environ(),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)  # its size is 0 by 0: that of some containers' terminals
    drawn = b""
    try:
        while chunk := os.read(ours, 65536):
            drawn += chunk
    except OSError:
        pass  # how a terminal ends: EIO
    finally:
        os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    count = len(expected(replica, COLLECTION))
    assert f"/{count} files" in drawn.decode()
    assert "B/s" in drawn.decode()
    assert drawn.decode().lstrip("\r ").startswith("0%|"), drawn[:80]
    assert out.startswith(f"{count} files fetched")


def test_a_kill_leaves_no_file_that_is_not_whole(
    replica: ServedReplica, proxy: FaultProxy, hampered: Prefetch, tmp_path: Path
) -> None:
    report = tmp_path / "report.jsonl"
    proxy.fail(
        Stall(after_bytes=2000),
        when=lambda request: request.is_object and sum(request.path.encode()) % 2 == 0,
    )
    process = subprocess.Popen(
        hampered.command(
            *(selected(replica, COLLECTION), f"--download-dir={hampered.root}"),
            f"--report={report}",
        ),
        env=hampered.launcher.environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: report.exists() and report.stat().st_size > 0, "a file is whole")
    process.kill()
    process.wait(60)
    proxy.clear()
    wanted = expected(replica, COLLECTION)
    whole = {path: md5 for path, md5 in hampered.files().items() if "/." not in path}
    assert whole.items() <= wanted.items()
    reported = {line["path"]: line["checksum"]["md5"] for line in read_report(report)}
    assert reported
    assert reported.items() <= {str(hampered.root / k): md5 for k, md5 in whole.items()}.items()


def test_a_directory_that_is_removed_meanwhile_is_made_again(
    replica: ServedReplica, hampered: Prefetch, proxy: FaultProxy
) -> None:
    chosen = replica.one("MR", collection_id="gbm_dsc_mri_dro")
    held = sorted(built.path.name for built in replica.objects_of(chosen))[-1]
    removed: list[Path] = []

    def remove_before_the_last(request: Request) -> bool:
        if not request.path.endswith(held):
            return False
        if not removed:
            removed.append(next(hampered.root.rglob("MR_*")))
            shutil.rmtree(removed[0])
        return False

    proxy.fail(NOT_FOUND, when=remove_before_the_last)
    command = chosen.uuid, f"--download-dir={hampered.root}", "--jobs=1"
    done = hampered(*command)
    assert removed
    assert done.returncode == 0, done.stderr  # the one that was under way came after all
    assert [Path(path).name for path in hampered.files()] == [held]
    again = hampered(*command)
    assert again.returncode == 0, again.stderr
    assert hampered.files() == {
        path: md5
        for path, md5 in expected(replica, "gbm_dsc_mri_dro").items()
        if path.split("/")[3] == f"MR_{chosen.series_instance_uid}"
    }
