"""The cache against a dictionary: any sequence of what its users do."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from idcfs.cache import DiskCache, units
from idcfs.cache.transfers import overlap
from idcfs.cache.units import adjacent
from idcfs.errors import CacheError, IntegrityError
from idcfs.model import Extent, ObjectRef
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import part_of, path_of, start, store, unfinished

if TYPE_CHECKING:
    from idcfs.cache import CachedObject, ExtentWriter

SIZES = [1, 20, 40, 95, 100, 101, 150, 160]
SMALL_UNIT = 20
UNIT = 40


@dataclass
class Model:
    """What a test knows of one object."""

    ref: ObjectRef
    content: bytes
    stored: set[Extent] = field(default_factory=set)
    held: CachedObject | None = None
    writers: list[ExtentWriter] = field(default_factory=list)

    @property
    def units(self) -> list[Extent]:
        size = len(self.content)
        step = SMALL_UNIT if size <= 100 else UNIT
        return [Extent(at, min(step, size - at)) for at in range(0, size, step)]

    @property
    def is_whole(self) -> bool:
        return self.stored == set(self.units)

    def run(self, at: int, count: int) -> Extent | None:
        """Return the first missing units of some, as far as they are adjacent."""
        first = at % len(self.units)
        missing = [unit for unit in self.units[first : first + count] if unit not in self.stored]
        return adjacent(missing)

    def units_in(self, extent: Extent) -> set[Extent]:
        return {unit for unit in self.units if overlap(unit, extent)}


objects = st.integers(0, len(SIZES) - 1)
places = st.integers(0, 4)
counts = st.integers(1, 5)


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.cache = DiskCache(self.root)
        contents = [make_content(size, seed=size) for size in SIZES]
        self.models = [
            Model(make_ref(content, f"{len(content)}.dcm"), content) for content in contents
        ]

    def opened(self, number: int) -> tuple[Model, CachedObject]:
        model = self.models[number]
        if model.held is None:
            model.held = self.cache.open(model.ref)
        return model, model.held

    @rule(number=objects, at=places, count=counts)
    def write_run(self, number: int, at: int, count: int) -> None:
        """Write some units, or all of a small object in one piece."""
        model, held = self.opened(number)
        run = model.run(at, count)
        if run is None:
            assert held.writer(model.units[at % len(model.units)]) is None
        else:
            store(held, model.content, run)
            model.stored |= model.units_in(run)

    @rule(number=objects, at=places, count=counts, length=st.integers(0, 99))
    def start_run(self, number: int, at: int, count: int, length: int) -> None:
        model, held = self.opened(number)
        run = model.run(at, count)
        if run is not None:
            writer = start(held, run)
            assert writer.extent == run
            writer.write(memoryview(model.content)[run.offset : run.end][:length])
            model.writers.append(writer)

    @rule(number=objects)
    def end_oldest_run(self, number: int) -> None:
        """Complete a transfer that may have been overtaken meanwhile."""
        model = self.models[number]
        if model.writers:
            writer = model.writers.pop(0)
            run = writer.extent
            newer = any(overlap(run, other.extent) for other in model.writers)
            begin = writer._offset  # type: ignore[attr-defined]  # DiskCache's
            try:
                writer.write(memoryview(model.content)[begin : run.end])
                writer.commit()
            except CacheError:
                writer.abort()
                return
            assert not newer
            assert not model.stored & model.units_in(run)
            model.stored |= model.units_in(run)

    @rule(number=objects)
    def abort_oldest_run(self, number: int) -> None:
        model = self.models[number]
        if model.writers:
            model.writers.pop(0).abort()

    @rule(number=objects, at=places, count=counts, byte=st.integers(1, 255))
    def write_what_is_wrong(self, number: int, at: int, count: int, byte: int) -> None:
        model, held = self.opened(number)
        run = model.run(at, count)
        if run is None:
            return
        wrong = bytearray(model.content)
        wrong[run.offset] ^= byte
        completes = model.stored | model.units_in(run) == set(model.units)
        if not completes:
            wrong = bytearray(model.content[: run.end - 1])  # nobody could tell otherwise
        with pytest.raises(IntegrityError):
            store(held, bytes(wrong), run)
        if completes:
            model.stored.clear()

    @rule(number=objects, offset=st.integers(0, 159), length=st.integers(1, 160))
    def read(self, number: int, offset: int, length: int) -> None:
        model, held = self.opened(number)
        offset %= len(model.content)
        extent = Extent(offset, min(length, len(model.content) - offset))
        if not held.missing(extent):
            wanted = model.content[extent.offset : extent.end]
            assert held.read(extent) == wanted
            assert held.read_nowait(extent) in (None, wanted)

    @rule(number=objects)
    def discard(self, number: int) -> None:
        model, held = self.opened(number)
        held.discard(model.ref.whole)
        model.stored.clear()

    @rule(number=objects)
    def close(self, number: int) -> None:
        model, held = self.opened(number)
        held.close()
        self._let_go(model)

    @rule(number=objects, at=places, flip=st.integers(1, 255))
    def damage_a_block(self, number: int, at: int, flip: int) -> None:
        """Another program overwrites a byte; the object is opened anew and read."""
        model = self.models[number]
        place = path_of(self.root, model.ref)
        path = place if place.exists() else part_of(self.root, model.ref)
        unit = model.units[at % len(model.units)]
        if unit not in model.stored or not path.exists():
            return
        with path.open("r+b") as file:
            file.seek(unit.offset)
            byte = file.read(1)[0]
            file.seek(unit.offset)
            file.write(bytes([byte ^ flip]))
        if model.held is not None:
            model.held.close()
        model.writers.clear()
        model.held = self.cache.open(model.ref)
        with pytest.raises(CacheError, match="damaged"):
            model.held.read(unit)
        model.held.discard(unit)
        if path == place and len(model.content) <= 100:
            model.stored.clear()
        else:
            model.stored.discard(unit)

    @rule(orderly=st.booleans())
    def reopen_cache(self, orderly: bool) -> None:
        former, self.cache = self.cache, DiskCache(self.root)
        if orderly:
            former.close()
        else:
            former._claims.close()  # as the kernel does when a process dies
        for model in self.models:
            self._let_go(model)

    @precondition(lambda self: any(model.is_whole for model in self.models))
    @rule(number=objects)
    def cut_short(self, number: int) -> None:
        model = self.models[number]
        if model.is_whole:
            if model.held is not None:
                model.held.close()
            path = path_of(self.root, model.ref)
            path.write_bytes(path.read_bytes()[:-1])
            model.stored.clear()
            self._let_go(model)

    def _let_go(self, model: Model) -> None:
        model.writers.clear()
        model.held = None

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        for model in self.models:
            if model.held is not None:
                missing = model.held.missing(model.ref.whole)
                assert missing == [unit for unit in model.units if unit not in model.stored]
            if model.is_whole:
                assert path_of(self.root, model.ref).read_bytes() == model.content
            elif model.held is None:
                held = self.cache.open(model.ref)
                missing = held.missing(model.ref.whole)
                assert missing == [unit for unit in model.units if unit not in model.stored]
                for unit in model.stored:
                    assert held.read(unit) == model.content[unit.offset : unit.end]
                held.close()

    @invariant()
    def keeps_no_more_unfinished_files_than_it_must(self) -> None:
        open_objects = sum(model.held is not None for model in self.models)
        mine = [path for path in unfinished(self.root) if path.parent == self.cache._scratch.path]
        assert len(mine) <= open_objects

    def teardown(self) -> None:
        self.cache.close()
        shutil.rmtree(self.root)


SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.usefixtures("small_units")
def test_any_sequence_of_steps() -> None:
    assert (units.BLOCK_BYTES, units.UNIT_BYTES) == (SMALL_UNIT, UNIT)
    run_state_machine_as_test(CacheMachine, settings=SETTINGS)
