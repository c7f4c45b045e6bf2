"""Writers of what is missing: into a file of their own, or into an object's partial file.

A transfer that was given up may still be running when the next one has started, or even
finished: `abort` makes sure that it writes no more. Locks are taken in the order writer,
object.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from idcfs.cache.blocks import Summing
from idcfs.cache.files import cannot_write, write_fully
from idcfs.cache.room import stored_bytes
from idcfs.cache.verify import ContentCheck
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.cache.files import Descriptor
    from idcfs.cache.ledger import Reservation
    from idcfs.cache.partial import PartialFile
    from idcfs.model import Checksum, Extent, ObjectRef

logger = logging.getLogger(__name__)


class WriterTarget(Protocol):
    """What a writer asks of the object that it writes."""

    def store(self, writer: UnitWriter) -> None:
        """Count what was written as stored. Raises CacheError, IntegrityError."""
        ...

    def forget_writer(self, writer: UnitWriter) -> None:
        """Expect nothing of this writer any more. Never raises."""
        ...


class UnitWriter:
    """An `ExtentWriter` for adjacent units of an object."""

    def __init__(
        self,
        target: WriterTarget,
        ref: ObjectRef,
        extent: Extent,
        *,
        file: Descriptor,
        block_bytes: int,
        partial: PartialFile | None,
        own_path: Path | None,
        reservation: Reservation,
        claimed_units: int,
        given_up: Callable[[], bool],
        waits: bool,
    ) -> None:
        self.extent = extent
        self.file = file
        self.own_path = own_path
        """The unfinished file, where it is the writer's alone."""
        self.is_moved = False
        """Whether that file has got its final name."""
        self.reservation = reservation
        self.claimed_units = claimed_units
        """How many units are claimed; 0 if waiting for the claim was in vain."""
        self.given_up = given_up
        self.waits = waits
        """Whether whoever commits the last part waits until the whole has been checked."""
        self.covers_whole = extent == ref.whole
        self._target = target
        self._series = ref.series
        self._partial = partial
        self._check = ContentCheck(ref, extent)
        self._summing = Summing(block_bytes)
        self._offset = extent.offset
        self._lock = threading.Lock()
        self._ended = False

    @property
    def sums(self) -> list[int]:
        """The checksums of the extent's blocks, once all of it was written."""
        return self._summing.finish()

    def expect(self, offered: tuple[Checksum, ...]) -> None:
        """See `ExtentWriter.expect`."""
        self._check.expect(offered)

    def write(self, chunk: memoryview) -> None:
        """See `ExtentWriter.write`."""
        self._check.update(chunk)
        if self._offset + len(chunk) > self.extent.end:
            # Must not spill into a unit that is stored already; `finish` will say more.
            self._check.finish()
        self._summing.update(chunk)
        with self._lock:
            self._require_current()
            try:
                write_fully(self.file.number, chunk, self._offset)
            except OSError as exc:
                raise cannot_write(exc) from exc
            self._offset += len(chunk)

    def commit(self) -> None:
        """See `ExtentWriter.commit`."""
        self._check.finish()
        with self._lock:
            self._require_current()
            self._ended = True
        try:
            self._target.store(self)
        except CacheError:
            self._give_back()
            raise
        finally:
            self._target.forget_writer(self)

    def abort(self) -> None:
        """See `ExtentWriter.abort`."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self.own_path is not None:
                # Gives a full disk its space back, even while somebody holds the file open.
                with suppress(OSError):
                    os.ftruncate(self.file.number, 0)
        self._give_back()
        self._target.forget_writer(self)

    def _give_back(self) -> None:
        """Leave nothing in a partial file that is not stored, or have it in the books."""
        if self._partial is None:
            return
        try:
            if self.claimed_units:
                self._partial.free(self.extent)
                return
            # Who has claimed them may be writing the same.
        except CacheError:
            return  # the file has been removed, or is whole
        except OSError as exc:
            logger.debug("cannot make a hole in %s: %s", self._partial.path, exc.strerror)
        self.reservation.settle(self._series, stored_bytes(self._offset - self.extent.offset))

    def _require_current(self) -> None:
        if self._ended:
            raise CacheError("another transfer of the same bytes has started")
