"""The workloads that bring many files to the local disk: idcfs, s5cmd and idc-index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.bench import LIMIT_S, check_files
from tests.bench.errors import UnavailableError
from tests.bench.processes import idcfs_command, run_well, tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.bench import Bench
    from tests.bench.objects import BenchSeries
    from tests.bench.targets import Metrics

REPOSITORY: Final = Path(__file__).resolve().parents[2]
_REFERENCE_SCRIPT: Final = REPOSITORY / "tests/differential/reference_download.py"

LENGTH: Final = "idcfs --verify length"
"""The contestant that checks no more than s5cmd does."""

LOOPBACK: Final = "loopback"
"""No link at all: straight to the store, where nobody counts."""


def copy_prefix(bench: Bench, link: str, series: BenchSeries, name: str = "*") -> Metrics:
    """Time `s5cmd cp` of a series, or of one file of it, to the local disk."""
    sums = bench.expected(series)
    with bench.scratch() as scratch:
        copies = scratch / "copies"
        url = f"s3://{series.bucket}/{series.uuid}/{name}"
        command = [*_s5cmd(_url(bench, link)), "cp", url, f"{copies}/"]
        return _timed(
            bench, link, command, copies, sums if name == "*" else {name: sums[name]}, scratch
        )


def prefetch_cohort(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time bringing 2,000 CT files to the local disk."""
    return _download(bench, contestant, link, bench.stored.objects.cohort)


def prefetch_small(bench: Bench, contestant: str, link: str) -> Metrics:
    """Time bringing 20,000 files of 5 kB to the local disk."""
    return _download(bench, contestant, link, bench.stored.objects.small)


def _download(bench: Bench, contestant: str, link: str, chosen: Sequence[BenchSeries]) -> Metrics:
    with bench.scratch() as scratch:
        copies = scratch / "copies"
        copies.mkdir()
        command = _command(contestant, _url(bench, link), chosen, copies, scratch)
        metrics = _timed(bench, link, command, copies, bench.expected(*chosen), scratch)
    return metrics | {"bytes": sum(series.size_bytes for series in chosen)}


def _timed(
    bench: Bench,
    link: str,
    command: list[str],
    copies: Path,
    sums: dict[str, str],
    scratch: Path,
) -> Metrics:
    """Run a download, compare its files with their SHA-256, and return what it took."""
    mark = 0 if link == LOOPBACK else bench.links[link].mark()
    done = run_well(command, scratch=scratch, timeout_s=LIMIT_S)
    check_files(copies, sums)
    metrics = {"seconds": done.seconds, "cpu_s": done.cpu_s, "process_bytes": done.peak_bytes}
    if link == LOOPBACK:
        return metrics
    wire = bench.links[link].since(mark)
    return metrics | {"wire_bytes": wire.size_bytes, "wire_requests": wire.requests}


def _url(bench: Bench, link: str) -> str:
    return bench.store_url if link == LOOPBACK else bench.links[link].url


def _command(
    contestant: str, url: str, chosen: Sequence[BenchSeries], copies: Path, scratch: Path
) -> list[str]:
    """Return the command line by which a contestant downloads the series."""
    manifest = scratch / "manifest.txt"
    if contestant == "idc-index":
        uids = ",".join(series.series_instance_uid for series in chosen)
        return [*_reference(url), "download", "--download-dir", str(copies), uids]
    if contestant == "s5cmd":
        # As idc-index runs it: one line, and one directory, for each series.
        lines = [f"cp s3://{each.bucket}/{each.uuid}/* {copies}/{each.uuid}/" for each in chosen]
        manifest.write_text("\n".join(lines) + "\n")
        return [*_s5cmd(url), "run", str(manifest)]
    manifest.write_text("".join(f"s3://{each.bucket}/{each.uuid}/*\n" for each in chosen))
    verify = "length" if contestant == LENGTH else "full"
    options = (f"--endpoint-url={url}", f"--download-dir={copies}", f"--verify={verify}")
    return idcfs_command("prefetch", *options, f"--manifest={manifest}")


def _s5cmd(url: str) -> list[str]:
    return [tool("s5cmd"), "--no-sign-request", "--endpoint-url", url]


def _reference(url: str) -> list[str]:
    python = os.environ.get("IDCFS_REFERENCE_PYTHON", REPOSITORY / ".venv-reference/bin/python")
    if not Path(python).exists():
        raise UnavailableError(f"idc-index is not installed at {python}: `make bench` would do it")
    return [str(python), str(_REFERENCE_SCRIPT), url]
