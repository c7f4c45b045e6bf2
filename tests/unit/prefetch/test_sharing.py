"""How several processes share the series of one prefetch."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.cache.units import WHOLE_LIMIT_BYTES
from idcfs.cli.prefetch import prefetch as prefetch_command
from idcfs.model import Series, SeriesUUID
from idcfs.prefetch import sharing
from idcfs.prefetch.batches import Streaming
from idcfs.prefetch.job import PrefetchRequest
from idcfs.prefetch.outcome import Outcome
from idcfs.prefetch.sharing import Shares, process_count
from idcfs.prefetch.targets import Verify
from tests.support.mounting import REPOSITORY, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def placed(directories: Sequence[str]) -> list[tuple[Series, str]]:
    return [
        (Series(SeriesUUID(f"{number:032x}"), "bucket", number, 1, 0), directory)
        for number, directory in enumerate(directories)
    ]


@given(
    sizes=st.lists(st.integers(1, 4), max_size=12),
    takers=st.integers(1, 4),
)
def test_each_series_goes_to_one_taker_and_each_directory_too(
    sizes: list[int], takers: int
) -> None:
    wanted = placed([f"d{number}" for number, size in enumerate(sizes) for _ in range(size)])
    shares = Shares(iter(wanted))
    got: list[list[tuple[Series, str]]] = [[] for _ in range(takers)]
    threads = [
        threading.Thread(target=lambda number=number: got[number].extend(shares.of(number)))
        for number in range(takers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted((each for some in got for each in some), key=lambda each: each[0].row) == wanted
    for some in got:
        assert some == sorted(some, key=lambda each: each[0].row)
    takers_of: dict[str, set[int]] = {}
    for number, some in enumerate(got):
        for _, directory in some:
            takers_of.setdefault(directory, set()).add(number)
    assert all(len(numbers) == 1 for numbers in takers_of.values())


def test_what_is_left_of_a_directory_goes_to_others_once_its_taker_has_left() -> None:
    wanted = placed(["one", "one", "two"])
    shares = Shares(iter(wanted))
    assert shares.take(0) == wanted[0]
    got: list[tuple[Series, str]] = []
    waiting, looked = threading.Thread(target=lambda: got.extend(shares.of(1))), threading.Event()
    waiting.start()
    other = threading.Thread(target=lambda: got.extend(shares.of(2, looked.set)))
    other.start()
    assert looked.wait(10)
    assert not got
    shares.leave(0)
    waiting.join(10)
    other.join(10)
    assert sorted(got, key=lambda each: each[0].row) == wanted[1:]


def test_who_waits_for_anothers_directory_may_give_up() -> None:
    shares = Shares(iter(placed(["one", "one"])))
    shares.take(0)

    def check() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        shares.take(1, check)


def test_nothing_is_given_out_after_the_end() -> None:
    shares = Shares(iter(placed(["one", "one", "two"])))
    shares.take(0)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(shares.take(1)))
    thread.start()
    shares.close()
    wait_until(lambda: not thread.is_alive(), "the one who waits ends")
    assert got == [None]
    assert shares.take(0) is None


def test_who_has_left_gets_nothing_more_even_if_it_waits() -> None:
    wanted = placed(["one", "one", "two"])
    shares = Shares(iter(wanted))
    shares.take(0)
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(shares.take(1)))
    waiting.start()
    shares.leave(1)
    waiting.join(10)
    assert got == [None]
    assert shares.take(1) is None
    assert [shares.take(0), shares.take(2)] == wanted[1:]


def test_what_the_series_come_from_may_fail() -> None:
    def broken() -> Iterator[tuple[Series, str]]:
        yield from placed(["one"])
        raise failure

    failure = OSError("the index is gone")
    shares = Shares(broken())
    assert shares.take(0) is not None
    assert shares.take(1) is None
    assert shares.take(0) is None
    assert shares.failure is failure


def request(**changes: Any) -> PrefetchRequest:  # noqa: ANN401  # fields of any type
    given: dict[str, Any] = {
        "download_dir": Path("/there"),
        "cache_dir": Path("/cache"),
        "endpoint_url": None,
        "source": "aws",
        "jobs": None,
        "verify": Verify.FULL,
        "processes": None,
    }
    return PrefetchRequest(**(given | changes))


MUCH, SMALL, LITTLE = Outcome(10, 10**10), Outcome(1000, 10**8), Outcome(999, 10**8)
CTS = Outcome(2000, 10**9)


@pytest.mark.parametrize(
    ("changes", "outcome", "count"),
    [
        ({}, MUCH, 2),
        ({}, SMALL, 2),
        ({}, CTS, 5),
        ({"verify": Verify.LENGTH}, CTS, 2),
        ({}, LITTLE, 1),
        ({"processes": 1}, MUCH, 1),
        ({"processes": 5}, LITTLE, 5),
        ({"jobs": 1}, MUCH, 1),
        ({"jobs": 3}, CTS, 3),
        ({"jobs": 2, "processes": 5}, MUCH, 2),
        ({"bytes_per_s": 10**6, "processes": 5}, MUCH, 1),
        ({"from_dir": Path("/carried"), "processes": 5}, MUCH, 1),
        ({"streaming": Streaming("true", False, None), "processes": 5}, MUCH, 1),
    ],
)
def test_as_many_processes_as_pay(
    changes: dict[str, Any], outcome: Outcome, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "processor_count", lambda: 5)
    assert process_count(request(**changes), outcome) == count


def test_machines_of_one_processor_and_of_very_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "processor_count", lambda: 64)
    assert process_count(request(), MUCH) == sharing.MOST_PROCESSES
    monkeypatch.setattr(sharing, "processor_count", lambda: 1)
    assert process_count(request(), MUCH) == process_count(request(), SMALL) == 1


def test_help_and_document_say_how_many_pay() -> None:
    (option,) = (each for each in prefetch_command.params if each.name == "processes")
    assert isinstance(option, click.Option)
    document = REPOSITORY / "docs" / "prefetch.md"
    smallest, largest = sharing._HASHED_BYTES >> 10, WHOLE_LIMIT_BYTES >> 20
    for told in (option.help or "", " ".join(document.read_text().split())):
        assert re.search(
            rf"one for two (processors|of them), or one for each where files of {smallest} KiB to "
            rf"{largest} MiB, on average, are verified in full; (by )?{sharing.MOST_PROCESSES} at",
            told,
        )
