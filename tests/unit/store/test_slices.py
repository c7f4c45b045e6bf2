"""Whatever the keys are and however a prefix is cut, each key is listed exactly once."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.store.pages import Page
from idcfs.store.protocol import StoredObject
from idcfs.store.slices import EndlessError, Slice, UnorderedError, Walking, cut, walk

PREFIX = "series/"
MANY = [f"{PREFIX}{UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)}.dcm"
        for n in range(1, 10_001)]  # fmt: skip


@dataclass
class Model:
    """S3's paging as its documentation tells it: UTF-8 order, start-after, tokens."""

    keys: list[str]
    page_keys: int = 1000
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)

    def ask(self, start_after: str | None, token: str | None) -> Page:
        assert start_after is None or token is None
        self.asked.append((start_after, token))
        after = (start_after or "").encode() if token is None else bytes.fromhex(token)
        left = sorted(key.encode() for key in self.keys if key.encode() > after)
        page = [StoredObject(key.decode(), 1, 0, "") for key in left[: self.page_keys]]
        more = len(left) > self.page_keys
        return Page(page, left[self.page_keys - 1].hex() if more else None)


KEYS = st.lists(
    st.one_of(
        st.sampled_from(MANY),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=4).map(PREFIX.__add__),
        st.from_regex(r"[0-9a-f]{1,5}", fullmatch=True).map(PREFIX.__add__),
    ),
    max_size=60,
    unique=True,
)


def list_all(model: Model, slices: list[Slice]) -> list[str]:
    return [stored.key for one in slices for stored in walk(one, model.ask)]


@given(KEYS, st.integers(0, 40_000), st.integers(1, 20))
def test_each_key_is_listed_once_and_in_order(
    keys: list[str], expected: int, page_keys: int
) -> None:
    model = Model(keys, page_keys)
    assert list_all(model, cut(PREFIX, expected)) == sorted(keys, key=str.encode)


@given(KEYS, st.lists(st.text(st.characters(codec="utf-8"), max_size=3), unique=True, max_size=5))
def test_any_bounds_will_do(keys: list[str], bounds: list[str]) -> None:
    edges = [None, *sorted((PREFIX + bound for bound in bounds), key=str.encode), None]
    slices = [Slice(start, end) for start, end in itertools.pairwise(edges)]
    assert list_all(Model(keys, 3), slices) == sorted(keys, key=str.encode)


@given(st.none() | st.integers(-5, 1000))
def test_what_fits_one_page_is_not_cut(expected: int | None) -> None:
    assert cut(PREFIX, expected) == [Slice()]


@given(st.integers(1001, 10**9))
def test_slices_adjoin_and_cover_everything(expected: int) -> None:
    slices = cut(PREFIX, expected)
    assert slices[0].start is None
    assert slices[-1].end is None
    assert len({one.start for one in slices}) == len(slices) <= 4096
    assert all(a.end == b.start for a, b in itertools.pairwise(slices))


@pytest.mark.parametrize("count", [1001, 1760, 2500, 10_000])
def test_uuids_take_about_one_request_a_slice(count: int) -> None:
    model = Model(MANY[:count])
    assert list_all(model, cut(PREFIX, count)) == sorted(MANY[:count])
    slices = -(-count // 880)
    assert slices <= len(model.asked) <= slices + 1
    assert sum(token is not None for _, token in model.asked) <= 1


def test_a_thousand_take_one_request() -> None:
    model = Model(MANY[:1000])
    assert len(list_all(model, cut(PREFIX, 1000))) == 1000
    assert model.asked == [(None, None)]


@pytest.mark.parametrize("keys", [["s/b", "s/a"], ["s/a", "s/a"], ["s/"], ["s/80"]])
def test_what_is_out_of_order_or_before_the_slice_is_noticed(keys: list[str]) -> None:
    def ask(start_after: str | None, token: str | None) -> Page:
        return Page([StoredObject(key, 1, 0, "") for key in keys], None)

    with pytest.raises(UnorderedError):
        list(walk(Slice("s/80", "s/z"), ask))


def test_a_slice_that_never_ends_is_given_up() -> None:
    with pytest.raises(EndlessError, match="repeats"):
        list(walk(Slice(), lambda *_: Page([], "again")))


def test_slices_are_walked_at_the_same_time() -> None:
    model, together = Model(MANY[:3000]), threading.Barrier(4, timeout=10)

    def ask(start_after: str | None, token: str | None) -> Page:
        together.wait()
        return model.ask(start_after, token)

    ended = threading.Semaphore(0)
    walking = Walking(cut(PREFIX, 3000), ask)
    for _ in range(3):
        walking.start_thread(ended.release)
    assert [stored.key for stored in walking.finish()] == sorted(MANY[:3000])
    assert all(ended.acquire(timeout=10) for _ in range(3))


def test_the_first_error_ends_it_all() -> None:
    asked: list[str | None] = []

    def ask(start_after: str | None, token: str | None) -> Page:
        asked.append(start_after)
        raise ValueError("broken")

    walking = Walking(cut(PREFIX, 9000), ask)
    with pytest.raises(ValueError, match="broken"):
        walking.finish()
    assert asked == [None]
