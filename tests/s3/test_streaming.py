"""`idcfs prefetch --exec`: series pass through a directory, batch by batch, under a command."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.s3.test_prefetch import COLLECTION, Prefetch, expected, prefetch, selected
from tests.support.mounting import wait_until

if TYPE_CHECKING:
    from tests.support.replica import ServedReplica

__all__ = ["prefetch"]  # a fixture


def uuids(replica: ServedReplica) -> list[str]:
    return [series.uuid for series in replica.series if series.collection_id == COLLECTION]


def test_a_selection_passes_through_in_batches(
    replica: ServedReplica, prefetch: Prefetch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    # Each time: the series' files, by sum, and how many files there were in all.
    command = (
        f'cd "$SERIES_DIR" && md5sum *.dcm >"{seen}/$SERIES_UUID" && '
        f'find "{prefetch.root}" -name "*.dcm" | wc -l >>"{seen}/$SERIES_UUID"'
    )
    arguments = [
        selected(replica, COLLECTION),
        f"--download-dir={prefetch.root}",
        f"--exec={command}",
        "--exec-remove",
    ]
    wanted = uuids(replica)
    done = prefetch(*arguments, "--batch-size=1")  # each series is larger
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"the command ended well on {len(wanted)} series, and had on 0 before" in done.stdout
    assert sorted(path.name for path in seen.iterdir()) == sorted(wanted)
    sums = dict[str, str]()
    for path in seen.iterdir():
        *files, count = path.read_text().splitlines()
        assert int(count) == len(files)  # nothing but this series was there
        sums |= {name: md5 for md5, name in map(str.split, files)}
    assert sums == {Path(path).name: md5 for path, md5 in expected(replica, COLLECTION).items()}
    (record,) = prefetch.files()
    assert sorted((prefetch.root / record).read_text().split()) == sorted(wanted)
    assert [path.name for path in prefetch.root.iterdir()] == [record]
    again = prefetch(*arguments)
    assert again.returncode == 0
    assert again.stdout.startswith("0 files fetched (0 bytes), 0 were there already")
    assert f"on 0 series, and had on {len(wanted)} before" in again.stdout


def test_a_command_that_fails_keeps_its_series_and_is_run_again(
    replica: ServedReplica, prefetch: Prefetch, tmp_path: Path
) -> None:
    bad = min(uuids(replica))
    switch = tmp_path / "works"
    arguments = [
        selected(replica, COLLECTION),
        f"--download-dir={prefetch.root}",
        f'--exec=test "$SERIES_UUID" != {bad} || test -e {switch}',
        "--exec-remove",
        f"--report={tmp_path / 'report'}",
    ]
    done = prefetch(*arguments)
    assert done.returncode == 1
    assert ", 0 failed; " in done.stdout
    assert (
        f"on {len(uuids(replica)) - 1} series, and had on 0 before; it failed on 1" in done.stdout
    )
    *lines, last = map(json.loads, (tmp_path / "report").read_text().splitlines())
    (failed,) = (line for line in lines if line["outcome"] == "failed")
    assert (failed["series"], failed["bytes"]) == (bad, None)
    assert "status 1" in failed["reason"]
    assert (last["summary"]["commands_failed"], last["summary"]["failed_files"]) == (1, 0)
    assert f"series {bad}: the command ended with status 1; its files stay in " in done.stderr
    (series,) = (series for series in replica.series if series.uuid == bad)
    left = {Path(name).name for name in prefetch.files() if name.endswith(".dcm")}
    assert left == {built.key.split("/")[1] for built in replica.objects_of(series)}
    switch.touch()
    again = prefetch(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"0 files fetched (0 bytes), {len(left)} were there already")
    assert not [name for name in prefetch.files() if name.endswith(".dcm")]


def test_files_stay_without_the_option_that_removes_them(
    replica: ServedReplica, prefetch: Prefetch
) -> None:
    done = prefetch(
        selected(replica, COLLECTION), f"--download-dir={prefetch.root}", "--exec=exit 0"
    )
    assert done.returncode == 0, done.stderr
    files = {name: md5 for name, md5 in prefetch.files().items() if name.endswith(".dcm")}
    assert files == expected(replica, COLLECTION)


def start(
    replica: ServedReplica, prefetch: Prefetch, told: Path, command: str, *arguments: str
) -> subprocess.Popen[str]:
    """Start a prefetch; return it once its command has told a process in a file."""
    process = subprocess.Popen(
        prefetch.command(
            selected(replica, COLLECTION),
            f"--download-dir={prefetch.root}",
            f"--exec={command}",
            *arguments,
        ),
        env=prefetch.launcher.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: told.exists() and told.read_text().endswith("\n"), "the command runs")
    return process


def test_ctrl_c_ends_the_command_and_what_it_started(
    replica: ServedReplica, prefetch: Prefetch, tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    process = start(replica, prefetch, told, f"sleep 600 & echo $! >{told}; wait", "--exec-remove")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    left = int(err.partition(" files to go and ")[2].split()[0])
    assert 1 <= left <= len(uuids(replica)), err
    started = Path(f"/proc/{told.read_text().strip()}/stat")
    wait_until(
        lambda: not started.exists() or started.read_text().split()[2] == "Z", "its child is gone"
    )
    assert [name for name in prefetch.files() if name.endswith(".dcm")]


def test_a_second_ctrl_c_kills_a_command_that_does_not_end(
    replica: ServedReplica, prefetch: Prefetch, tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    command = f"trap 'touch {tmp_path}/termed' TERM; echo $$ >{told}; while :; do sleep 0.1; done"
    process = start(replica, prefetch, told, command)
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "termed").exists, "it was told to end")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130, err
    assert "idcfs: interrupted" in err
    assert not Path(f"/proc/{told.read_text().strip()}").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exec=true"], "name it with --download-dir"),
        (["--exec= ", "--download-dir=D"], "it is empty"),
        (["--batch-size=1G", "--download-dir=D"], "say something of --exec"),
        (["--exec=true", "--download-dir=D", "--batch-size=none"], "a size such as 200G"),
        (["--exec=true", "--download-dir=D", "--batch-size=10%"], "a size such as 200G"),
        (["--exec=true", "--download-dir=D", "--exec-remove", "--from-dir=D"], "themselves"),
        (["--exec=true", "--download-dir=D", "--exec-remove", "--from-dir=D/below"], "themselves"),
        (["--exec=true", "--download-dir=D/below", "--exec-remove", "--from-dir=D"], "themselves"),
        (["--exec=true", "--download-dir=D", "--dir-template=%collection_id"], "%crdc_series_uuid"),
    ],
)
def test_what_makes_no_sense_is_refused(
    prefetch: Prefetch, arguments: list[str], message: str
) -> None:
    here = str(prefetch.root)
    done = prefetch(COLLECTION, *(word.replace("=D", f"={here}") for word in arguments))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not prefetch.root.exists()
