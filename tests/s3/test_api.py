"""Prefetch and files through the Python API, against the replica."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import idcfs
from tests.support.examples import examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.replica import ServedReplica


@pytest.fixture
def idc(replica: ServedReplica, tmp_path: Path) -> Iterator[idcfs.Index]:
    with idcfs.Index(cache_dir=tmp_path / "cache", endpoint_url=replica.endpoint_url) as index:
        yield index


@pytest.fixture
def small(idc: idcfs.Index, replica: ServedReplica) -> idcfs.Selection:
    """A CT series of some files."""
    return idc.select(replica.one("CT", collection_id="eay131").series_instance_uid)


def test_the_examples_of_the_document_run(
    idc: idcfs.Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"idcfs": idcfs, "idc": idc}
    for block in examples(network=True):
        exec(compile(block, "docs/python.md", "exec"), names)
    report = names["report"]
    assert isinstance(report, idcfs.Report)
    assert (report.fetched_files, report.is_complete) == (8, True)
    assert capsys.readouterr().out.endswith("\n8\n")
    assert len(list(tmp_path.rglob("download/**/*.dcm"))) == 8


def test_files_have_the_bytes_of_the_store(
    small: idcfs.Selection, replica: ServedReplica, idc: idcfs.Index
) -> None:
    files = list(small.files())
    assert [file.size_bytes > 0 for file in files] == [True] * small.size().instance_count
    for file in files:
        stored = (replica.directory / file.url.removeprefix("s3://")).read_bytes()
        with file.open() as stream:
            assert stream.read() == stored
            assert (stream.seek(-4, 2), stream.read(100)) == (len(stored) - 4, stored[-4:])
            assert (stream.seek(len(stored) + 9), stream.read(1)) == (len(stored) + 9, b"")
            with pytest.raises(ValueError, match="cannot seek"):
                stream.seek(-1)
        assert hashlib.md5(stored).hexdigest() == file.md5


def test_what_was_read_once_needs_no_network(
    small: idcfs.Selection, own_replica: ServedReplica, tmp_path: Path
) -> None:
    uuids = [series.uuid for series in small.series()]
    where = {"cache_dir": tmp_path / "own", "endpoint_url": own_replica.endpoint_url}
    with idcfs.Index(**where) as online:  # type: ignore[arg-type]  # each has its type
        contents = [file.open().read() for file in online.select(crdc_series_uuid=uuids).files()]
    own_replica.store.stop()
    with idcfs.Index(**where) as offline:  # type: ignore[arg-type]  # each has its type
        again = [file.open().read() for file in offline.select(crdc_series_uuid=uuids).files()]
    assert again == contents


def test_files_can_be_read_by_many_threads_at_once(small: idcfs.Selection) -> None:
    files = list(small.files()) * 4
    with ThreadPoolExecutor(8) as threads:
        digests = threads.map(lambda file: hashlib.md5(file.open().read()).hexdigest(), files)
    assert list(digests) == [file.md5 for file in files]


def test_a_closed_index_reads_no_more_and_says_so(idc: idcfs.Index, small: idcfs.Selection) -> None:
    stream = next(small.files()).open()
    idc.close()
    with pytest.raises(idcfs.UsageError, match="the index is closed"):
        stream.read()
    stream.close()


def test_an_incomplete_prefetch_raises_with_its_report(
    idc: idcfs.Index, replica: ServedReplica, tmp_path: Path
) -> None:
    held = {series.series_instance_uid for series in replica.series}
    lidc = idc.select("LIDC-IDRI-0957")
    absent = next(
        uid
        for (uid,) in lidc.query("SELECT SeriesInstanceUID FROM selection ORDER BY 1")
        if uid not in held
    )
    present = replica.one("SR").series_instance_uid
    both = idc.select(series_instance_uid=[absent, present])
    with pytest.raises(idcfs.IncompletePrefetchError, match=r"1 of .* files are there") as caught:
        both.prefetch(tmp_path / "download")
    report = caught.value.report
    assert (report.fetched_files, report.is_complete, len(report.failures)) == (1, False, 1)
    again = both.prefetch(tmp_path / "download", check=False)
    assert (again.fetched_files, again.present_files, len(again.failures)) == (0, 1, 1)


def test_progress_ends_a_prefetch_by_raising(small: idcfs.Selection, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def show(figures: idcfs.Progress) -> None:
        raise Enough(figures.total_files)

    with pytest.raises(Enough):
        small.prefetch(tmp_path / "download", progress=show)
    assert small.prefetch(tmp_path / "download").is_complete


def test_prefetches_run_in_threads_of_async_code(small: idcfs.Selection, tmp_path: Path) -> None:
    threads: set[str] = set()

    async def both() -> list[idcfs.Report]:
        def fetch(name: str) -> idcfs.Report:
            threads.add(threading.current_thread().name)
            return small.prefetch(tmp_path / name)

        return await asyncio.gather(*(asyncio.to_thread(fetch, name) for name in "ab"))

    reports = asyncio.run(both())
    assert [report.fetched_files for report in reports] == [small.size().instance_count] * 2
    assert "MainThread" not in threads


def test_a_directory_is_rechecked(small: idcfs.Selection, tmp_path: Path) -> None:
    small.prefetch(tmp_path / "there", limit_rate="1GB")
    assert small.recheck(tmp_path / "there").is_complete
    damaged = next((tmp_path / "there").rglob("*.dcm"))
    damaged.write_bytes(b"?" * damaged.stat().st_size)
    report = small.recheck(tmp_path / "there", report=tmp_path / "report")
    assert [failure.subject for failure in report.failures] == [str(damaged)]
    assert '"outcome": "failed"' in (tmp_path / "report").read_text()
    assert small.prefetch(tmp_path / "there").replaced_files == 1
    with pytest.raises(idcfs.UsageError, match="no directory"):
        small.recheck(tmp_path / "elsewhere")
    with pytest.raises(idcfs.UsageError, match="is not a rate"):
        small.prefetch(tmp_path / "there", limit_rate="fast")
