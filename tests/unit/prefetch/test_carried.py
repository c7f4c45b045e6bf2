"""Files that were fetched elsewhere: what they are held against, and what is told of the rest."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from idcfs.cache import DiskCache
from idcfs.errors import StoreUnavailableError, UsageError
from idcfs.model import Instance
from idcfs.prefetch.carried import CarriedStore
from idcfs.prefetch.concurrency import Concurrency
from idcfs.prefetch.file_list import FileLists, file_line
from idcfs.prefetch.job import prefetch
from idcfs.prefetch.metered import MeteredStore
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.targets import CacheTarget, Verify
from tests.support.stores import (
    BUCKET,
    MTIME_NS,
    MemoryStore,
    in_trio,
    make_content,
    make_series,
    md5_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.model import Series


@dataclass
class Carried:
    """A directory with series in it, and a cache that takes them in."""

    base: Path
    remote: MemoryStore = field(default_factory=MemoryStore)
    """The store out there: it answers listings unless told otherwise."""
    placed: list[tuple[Series, str]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.base / "brought"

    def put(
        self, number: int, directory: str, *, count: int = 2, listed: bool = True
    ) -> dict[str, bytes]:
        """Bring a series, and with it the list that says what it should be."""
        contents = {f"{number}-{n}.dcm": make_content(1000 + n, number + n) for n in range(count)}
        series = replace(
            make_series(number, count=count), size_bytes=sum(map(len, contents.values()))
        )
        (self.root / directory).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (self.root / directory / name).write_bytes(content)
        if listed:
            with (self.root / f"idc-files-{number % 2}.jsonl").open("a") as file:
                for name, content in contents.items():
                    url = f"s3://{BUCKET}/{series.uuid}/{name}"
                    instance = Instance(name, len(content), MTIME_NS, md5_of(content))
                    file.write(file_line(url, instance))
        self.placed.append((series, directory))
        return contents

    def store(self, *, believes: bool = False) -> CarriedStore:
        layout = (lambda: self.placed) if believes else None
        return CarriedStore(self.root, remote=self.remote, layout=layout)

    async def take_in(self, *, believes: bool = False) -> Outcome:
        series = [each for each, _ in self.placed]
        outcome = Outcome(
            sum(each.instance_count or 0 for each in series),
            sum(each.size_bytes for each in series),
        )
        cache, store = DiskCache(self.base / "cache"), self.store(believes=believes)
        try:
            await prefetch(
                iter((each, each.uuid) for each in series),
                meter=MeteredStore(store),
                cache=cache,
                target=CacheTarget(cache, verify=Verify.FULL, disk=trio.CapacityLimiter(4)),
                outcome=outcome,
                observe=lambda outcome, under_way: None,
                note=lambda ending: None,
                concurrency=Concurrency.fixed(4),
                integrity_tries=1,
            )
        finally:
            store.close()
            cache.close()
        return outcome

    def cached(self) -> dict[str, bytes]:
        objects = self.base / "cache/objects"
        return {path.name: path.read_bytes() for path in objects.rglob("*.dcm")}


@pytest.fixture
def carried(tmp_path: Path) -> Carried:
    return Carried(tmp_path)


@in_trio
async def test_what_is_listed_is_taken_in_from_any_tree_without_asking_the_store(
    carried: Carried,
) -> None:
    wanted = carried.put(1, "some/tree") | carried.put(2, "some/tree") | carried.put(3, "")
    outcome = await carried.take_in()
    assert outcome.is_complete
    assert outcome.fetched_files == 6
    assert carried.cached() == wanted
    assert (carried.remote.lists, carried.remote.gets) == ([], [])


@in_trio
async def test_what_is_not_as_listed_is_refused_and_named(
    carried: Carried, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = carried.put(1, "d", count=5)
    damaged, cut, grown, lost = (carried.root / "d" / f"1-{n}.dcm" for n in range(4))
    damaged.write_bytes(bytes(len(wanted[damaged.name])))
    cut.write_bytes(wanted[cut.name][:-1])
    grown.write_bytes(wanted[grown.name] + b"\0")
    lost.unlink()
    outcome = await carried.take_in()
    assert carried.cached() == {"1-4.dcm": wanted["1-4.dcm"]}
    reasons = {failure.subject[-7:]: failure.reason for failure in outcome.failures}
    assert "MD5" in reasons["1-0.dcm"]
    assert reasons["1-1.dcm"] == f"{cut} is shorter than it should be"
    assert reasons["1-2.dcm"] == f"{grown} is longer than it should be"
    assert reasons["1-3.dcm"] == f"there is no file 1-3.dcm in {carried.root}"
    assert not caplog.records  # nothing is read again in hope


@in_trio
async def test_of_two_files_of_a_name_the_whole_one_below_the_series_is_taken(
    carried: Carried,
) -> None:
    wanted = carried.put(1, "a", count=1)
    uuid = carried.placed[0][0].uuid
    for place, content in (("b", b"old"), (uuid, wanted["1-0.dcm"])):
        (carried.root / place).mkdir()
        (carried.root / place / "1-0.dcm").write_bytes(content)
    (carried.root / "a/1-0.dcm").write_bytes(bytes(1000))
    assert (await carried.take_in()).is_complete
    assert carried.cached() == wanted


@in_trio
async def test_without_a_list_the_store_says_what_there_should_be(carried: Carried) -> None:
    wanted = carried.put(1, "d", listed=False)
    for name, content in wanted.items():
        carried.remote.add_content(content, name, series=1)
    assert (await carried.take_in()).is_complete
    assert carried.cached() == wanted
    assert carried.remote.gets == []


@in_trio
async def test_a_store_that_is_out_of_reach_is_asked_once(carried: Carried) -> None:
    def fail(prefix: str) -> None:
        raise StoreUnavailableError("no network")

    carried.remote.on_list = fail
    wanted = carried.put(1, "d")
    for number in range(2, 40):
        carried.put(number, str(number), count=1, listed=False)
    outcome = await carried.take_in()
    assert carried.cached() == wanted
    assert len(carried.remote.lists) == 1
    assert outcome.failed_files == 38
    assert outcome.gave_up is None
    assert "no network" in outcome.failures[0].reason
    assert "--verify length" in outcome.failures[0].reason


@in_trio
async def test_what_nothing_knows_is_believed_on_demand_if_number_and_bytes_are_right(
    carried: Carried, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = carried.put(1, "d/1", listed=False), carried.put(2, "d/2", listed=False)
    carried.put(3, "d/3", listed=False)
    (carried.root / "d/3/3-0.dcm").write_bytes(b"other")
    carried.put(4, "d/4", listed=False)
    (carried.root / "d/4/more.dcm").write_bytes(b"")
    carried.put(5, "shared", listed=False)
    carried.put(6, "shared", listed=False)
    uuid = carried.placed[1][0].uuid
    (carried.root / "d/2").rename(carried.root / uuid)
    outcome = await carried.take_in(believes=True)
    assert carried.cached() == first | second
    reasons = [failure.reason for failure in outcome.failures]
    assert len(reasons) == 4
    assert sum("has 3 files" in reason for reason in reasons) == 1
    assert sum("the index expects 2 of 2,001" in reason for reason in reasons) == 2
    assert sum("that only this series has" in reason for reason in reasons) == 2
    (record,) = caplog.records
    assert record.getMessage().startswith("2 series were taken for what they are by the number")
    assert record.levelno == logging.WARNING


def test_lists_are_read_as_far_as_they_make_sense(carried: Carried) -> None:
    carried.put(1, "d")
    carried.put(3, "d")
    path = carried.root / "idc-files-1.jsonl"
    whole = path.read_text()
    uuid = carried.placed[0][0].uuid
    begun = '{"key":"s3://b/' + uuid + "/cut.dcm"
    deep = begun + '","etag":' + "[" * 30_000 + "]" * 30_000 + "}"
    path.write_text(f'{whole}{begun}","et\nnonsense\n{deep}\n{whole}')
    (carried.root / "idc-files-2.jsonl").write_text(whole.replace('":"', '": "'))
    lists = FileLists(carried.root.glob("*.jsonl"))
    assert lists.series() == sorted(series.uuid for series, _ in carried.placed)
    found = lists.objects(uuid)
    assert [each.key for each in found] == [f"{uuid}/1-0.dcm", f"{uuid}/1-1.dcm"]
    assert found[0].etag == md5_of(make_content(1000, 1))
    assert found[0].mtime_ns == MTIME_NS // 10**6 * 10**6
    assert lists.objects(make_series(9).uuid) == []


def test_a_directory_that_is_not_there_is_a_usage_error(carried: Carried) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        carried.store()
