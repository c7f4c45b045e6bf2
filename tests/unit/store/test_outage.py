"""What is done, and what is not done any more, while no connection can be made."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from idcfs.errors import StoreError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.dialling import ConnectTimeoutError, Dialler
from idcfs.store.failures import answer_error
from idcfs.store.outage import Outage
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store

if TYPE_CHECKING:
    from idcfs.store.connections import Server


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage(3.0, clock=clock)


def unreachable(reason: str = "refused") -> StoreUnavailableError:
    error = StoreUnavailableError(f"cannot read a: {reason}")
    error.fault, error.no_connection = reason, True
    return error


def is_admitted(outage: Outage) -> bool:
    try:
        with outage.admit("cannot read b"):
            return True
    except StoreUnavailableError as exc:
        refusal = exc
    assert refusal.no_connection
    assert refusal.is_told
    assert str(refusal).startswith("cannot read b: ")
    return False


def test_it_is_told_once_and_lets_one_try_now_and_then(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert is_admitted(outage)
    first = unreachable()
    outage.note(first)
    outage.note(unreachable())
    assert first.is_told
    assert [is_admitted(outage) for _ in range(3)] == [False] * 3
    clock.now_s += 3
    assert [is_admitted(outage) for _ in range(3)] == [True, False, False]
    clock.now_s += 3
    assert is_admitted(outage)
    lasts_s = [outage.lasts_s]
    outage.end()
    outage.end()
    assert [*lasts_s, outage.lasts_s] == [6, None]
    assert [is_admitted(outage) for _ in range(3)] == [True] * 3
    begun, ended = caplog.messages
    assert begun.startswith("cannot read a: refused; until the store is back")
    assert ended == "the object store is back, after 6 s"


def test_it_begins_only_where_no_connection_could_be_made(outage: Outage) -> None:
    stalled = StoreUnavailableError("cannot read a: stopped answering")
    outage.note(stalled)
    assert not outage.is_on
    assert not stalled.is_told


def test_its_reason_is_the_newest(outage: Outage) -> None:
    outage.note(unreachable("refused"))
    outage.note(unreachable("no such host"))
    expected = r"^cannot list b: no such host$"
    with pytest.raises(StoreUnavailableError, match=expected), outage.admit("cannot list b"):
        raise AssertionError


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        *((answer_error(status, "", "", "a", "b"), True) for status in (302, 400, 403, 404, 412)),
        *((answer_error(status, "", "", "a", "b"), False) for status in (408, 429, 500, 502, 503)),
        (StoreUnavailableError("stalled"), False),
    ],
    ids=str,
)
def test_it_ends_with_an_answer_be_it_a_refusal(
    outage: Outage, clock: Clock, error: StoreError, is_over: bool
) -> None:
    outage.note(unreachable())
    clock.now_s += 3
    with pytest.raises(type(error)), outage.admit("cannot read b"):
        raise error
    assert outage.is_on != is_over


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers that were dialled, none of which can be reached."""
    dialled: list[str] = []

    def dial(self: Dialler, server: Server) -> None:
        dialled.append(server.netloc)
        raise ConnectTimeoutError("no connection in time")

    monkeypatch.setattr(Dialler, "dial", dial)
    return dialled


@pytest.mark.parametrize(("rest_s", "more"), [(1e6, 0), (0.0, 2), (None, 10)])
def test_what_a_store_tries_while_it_is_out_of_reach(
    dials: list[str], rest_s: float | None, more: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    patient = RetryPolicy(attempts=5, first_pause_s=0.0)
    outage = Outage(rest_s)
    with closing(S3Store(endpoint_url="http://store.test", retry=patient, outage=outage)) as store:
        with pytest.raises(StoreUnavailableError, match="cannot list s3://bucket/first/: http"):
            store.list_prefix("bucket", "first/")
        assert len(dials) == 5
        with pytest.raises(StoreUnavailableError, match="cannot list s3://bucket/x/: http") as one:
            store.list_prefix("bucket", "x/")
        with pytest.raises(StoreUnavailableError, match="cannot read s3://bucket/y: http") as two:
            store.get_extent("bucket", "y", Extent(0, 1), lambda chunk: None, etag="")
        assert len(dials) == 5 + more
        assert one.value.is_told == two.value.is_told == (rest_s is not None)
    assert len(caplog.records) == (rest_s is not None)
