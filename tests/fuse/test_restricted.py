"""A machine that does not reach the store: select here, fetch elsewhere, bring back, mount."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from idcfs.config import PATH_VARIABLE
from tests.differential.test_script import only_s5cmd, run
from tests.fuse.test_tree import default_path
from tests.support.mounting import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica

__all__ = ["only_s5cmd"]  # a fixture

NOWHERE = "http://127.0.0.1:9"
"""A port of loopback that nobody listens on."""


def test_what_a_script_fetched_elsewhere_is_mounted_without_a_network(
    replica: ServedReplica,
    tmp_path: Path,
    mount_at: Callable[..., Mount],
    only_s5cmd: Path,
) -> None:
    launcher = Launcher(environment={PATH_VARIABLE: os.devnull})
    chosen = [series for series in replica.series if series.modality in ("MR", "SEG")]
    script, elsewhere = tmp_path / "run.sh", tmp_path / "elsewhere"
    words = ",".join(series.uuid for series in chosen)
    made = launcher.run("manifest", words, f"--script={script}", "--dir-template=%PatientID")
    assert made.returncode == 0, made.stderr
    done = run(script, elsewhere, only_s5cmd, replica)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    back, cache = tmp_path / "back", tmp_path / "cache"
    shutil.copytree(elsewhere, back)
    mount = mount_at(cache_dir=cache, endpoint_url=NOWHERE)
    offline = [f"--endpoint-url={NOWHERE}", f"--cache-dir={cache}"]
    done = launcher.run("prefetch", f"--from-dir={back}", *offline)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"{sum(len(replica.objects_of(s)) for s in chosen)} files")
    shutil.rmtree(back)
    with mount:
        for series in chosen:
            directory = mount.path / default_path(series)
            wanted = {built.key.split("/")[1]: built for built in replica.objects_of(series)}
            assert sorted(os.listdir(directory)) == sorted(wanted)
            for name, built in wanted.items():
                content = (replica.directory / built.bucket / built.key).read_bytes()
                assert (directory / name).read_bytes() == content


def test_what_came_back_damaged_is_named_and_the_rest_is_put_into_a_directory(
    replica: ServedReplica, tmp_path: Path, only_s5cmd: Path
) -> None:
    launcher = Launcher(environment={PATH_VARIABLE: os.devnull})
    series = replica.one("MR")
    script, back, target = tmp_path / "run.sh", tmp_path / "back", tmp_path / "target"
    assert launcher.run("manifest", series.uuid, f"--script={script}").returncode == 0
    assert run(script, back, only_s5cmd, replica).returncode == 0
    damaged = min(back.rglob("*.dcm"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    done = launcher.run(
        "prefetch",
        f"--from-dir={back}",
        f"--download-dir={target}",
        "--dir-template=",
        f"--endpoint-url={NOWHERE}",
        f"--cache-dir={tmp_path / 'cache'}",
    )
    assert done.returncode == 1
    assert f"{target / damaged.name}: s3://" in done.stderr
    assert "MD5" in done.stderr
    assert done.stderr.count("\n") == 1
    whole = {built.key.split("/")[1] for built in replica.objects_of(series)} - {damaged.name}
    assert {path.name for path in target.iterdir()} == whole
