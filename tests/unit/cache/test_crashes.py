"""Killed at any instant, several at once: what was stored is there, and nothing is wrong."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from idcfs.cache import DiskCache
from idcfs.cache.audit import verify_cache
from idcfs.cache.units import adjacent
from idcfs.errors import CacheError
from idcfs.model import Extent, ObjectRef
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import Meddler, fill, path_of

if TYPE_CHECKING:
    from idcfs.cache import CachedObject

SIZES = [20, 60, 100, 101, 150, 199]
SMALL_UNIT = 20
UNIT = 40

objects = st.integers(0, len(SIZES) - 1)
places = st.integers(0, 4)
counts = st.integers(1, 6)


def together(units: list[Extent]) -> Extent:
    run = adjacent(units)
    assert run is not None
    return run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Model:
    """What must be there of one object, whatever happened."""

    ref: ObjectRef
    content: bytes
    stored: set[Extent] = field(default_factory=set)

    @property
    def units(self) -> list[Extent]:
        size = len(self.content)
        step = SMALL_UNIT if size <= 100 else UNIT
        return [Extent(at, min(step, size - at)) for at in range(0, size, step)]

    def run(self, at: int, count: int) -> list[Extent]:
        """Return some adjacent units; with many, all of the object in one piece."""
        first = at % len(self.units) if count <= len(self.units) else 0
        return self.units[first : first + count]


class CrashMachine(RuleBasedStateMachine):
    """Two caches in this process and others that die, over one directory and a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.caches = [DiskCache(self.root), DiskCache(self.root, verify_reads=True)]
        contents = [make_content(size, seed=size) for size in SIZES]
        self.models = [
            Model(
                make_ref(content, f"{len(content)}.dcm", etag="x-2" if number % 2 else None),
                content,
            )
            for number, content in enumerate(contents)
        ]
        self.held: dict[tuple[int, int], CachedObject] = {}

    def opened(self, cache: int, number: int) -> tuple[Model, CachedObject]:
        model = self.models[number]
        key = (cache % 2, number)
        if key not in self.held:
            self.held[key] = self.caches[key[0]].open(model.ref)
        return model, self.held[key]

    @rule(cache=places, number=objects, at=places, count=counts)
    def store_a_run(self, cache: int, number: int, at: int, count: int) -> None:
        model, held = self.opened(cache, number)
        run = model.run(at, count)
        fill(held, model.content, together(run))
        assert held.missing(together(run)) == []
        model.stored |= set(run)

    @rule(
        number=objects,
        first=places,
        count=counts,
        at_once=st.booleans(),
        at=st.integers(0, 60),
        after=st.booleans(),
    )
    def another_process_is_killed(
        self, number: int, first: int, count: int, at_once: bool, at: int, after: bool
    ) -> None:
        """It stores some units, tells of each through a pipe, and dies somewhere on the way."""
        model = self.models[number]
        run = model.run(first, count)
        receiving, telling = os.pipe()
        child = os.fork()
        if not child:
            try:
                with Meddler(at, die, after=after):
                    cache = DiskCache(self.root)
                    held = cache.open(model.ref)
                    for unit in run:
                        fill(held, model.content, together(run) if at_once else unit)
                        os.write(telling, bytes([model.units.index(unit)]))
            finally:
                os._exit(0)
        os.close(telling)
        os.waitpid(child, 0)
        with os.fdopen(receiving, "rb") as told:
            for place in told.read():
                model.stored.add(model.units[place])

    @rule(
        cache=places,
        number=objects,
        place=places,
        count=counts,
        at=st.integers(0, 20),
        times=st.integers(1, 30),
        code=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EROFS]),
    )
    def the_disk_fails(
        self, cache: int, number: int, place: int, count: int, at: int, times: int, code: int
    ) -> None:
        def fail() -> NoReturn:
            raise OSError(code, os.strerror(code))

        model, held = self.opened(cache, number)
        run = model.run(place, count)
        try:
            with Meddler(at, fail, after=False, times=times):
                fill(held, model.content, together(run))
        except CacheError:
            return
        model.stored |= set(run)

    @rule(cache=places, number=objects, offset=st.integers(0, 198), length=st.integers(1, 199))
    def read(self, cache: int, number: int, offset: int, length: int) -> None:
        model, held = self.opened(cache, number)
        offset %= len(model.content)
        extent = Extent(offset, min(length, len(model.content) - offset))
        if not held.missing(extent):
            wanted = model.content[extent.offset : extent.end]
            assert held.read_nowait(extent) in (None, wanted)
            assert held.read(extent) == wanted

    @rule(cache=places, number=objects)
    def close(self, cache: int, number: int) -> None:
        held = self.held.pop((cache % 2, number), None)
        if held is not None:
            held.close()

    @rule(cache=places)
    def reopen(self, cache: int) -> None:
        for key in [key for key in self.held if key[0] == cache % 2]:
            self.held.pop(key).close()
        self.caches[cache % 2].close()
        self.caches[cache % 2] = DiskCache(self.root, verify_reads=bool(cache % 2))

    @invariant()
    def everything_stored_is_there_and_right(self) -> None:
        for model in self.models:
            held = self.caches[0].open(model.ref)
            for unit in model.stored:
                assert held.missing(unit) == []
            for unit in model.units:
                if not held.missing(unit):
                    assert held.read(unit) == model.content[unit.offset : unit.end]
            held.close()
            path = path_of(self.root, model.ref)
            assert not path.exists() or path.read_bytes() == model.content

    def teardown(self) -> None:
        assert list(verify_cache(self.root)) == []
        for cache in self.caches:
            cache.close()
        DiskCache(self.root).close()
        assert list((self.root / "scratch").iterdir()) == []
        shutil.rmtree(self.root)


@pytest.mark.usefixtures("small_units")
def test_any_sequence_of_steps_and_crashes() -> None:
    run_state_machine_as_test(
        CrashMachine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("small_units")
def test_many_sequences_of_steps_and_crashes() -> None:
    run_state_machine_as_test(
        CrashMachine, settings=settings(max_examples=500, stateful_step_count=60, deadline=None)
    )
