"""Gives an object that came in pieces its name, once all are there and make up the whole."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from idcfs.cache.files import read_exactly
from idcfs.cache.partial import table_bytes
from idcfs.cache.sums import keep_sums, sums_bytes
from idcfs.cache.verify import ContentCheck
from idcfs.errors import CacheError, IntegrityError

if TYPE_CHECKING:
    from idcfs.cache.blocks import Blocks
    from idcfs.cache.held import Held, Services
    from idcfs.cache.holding import Holding
    from idcfs.cache.partial import PartialFile
    from idcfs.cache.paths import Paths
    from idcfs.cache.protocol import FindChecksums
    from idcfs.model import ObjectRef

_READ_BLOCKS = 8
"""How many blocks are read at once to check an object that came in pieces."""

_LATER_BYTES = 64 << 20
"""Above this, who stored the last part does not wait until all are held against the MD5: at
0.6 GiB/s a reader would have to wait for a slide's last tile a second longer than for others."""

logger = logging.getLogger(__name__)


class Completion:
    """Completes one object. Any thread; `lock` guards what its threads share.

    It knows what is held, and not who opened the object: two who know one another keep their
    files open until Python looks for such rings.
    """

    def __init__(
        self,
        ref: ObjectRef,
        paths: Paths,
        services: Services,
        lock: threading.RLock,
        holding: Holding,
        find_checksums: FindChecksums,
    ) -> None:
        """`find_checksums` is what the content is held against that has no MD5."""
        self._ref = ref
        self._paths = paths
        self._services = services
        self._lock = lock
        self._holding = holding
        self._thread: threading.Thread | None = None
        self._is_running = False
        self._is_wanted = False
        """Whether the thread is to look once more."""
        self._mismatch: IntegrityError | None = None
        self._find_checksums = find_checksums

    def complete_leavings(self) -> None:
        """Do what a process was killed before; in a thread, if that takes long or the network.

        Raises IntegrityError.
        """
        if self._ref.instance.md5 is None:
            self._complete_later()
        else:
            self.complete(checked=False)

    def complete(self, *, checked: bool) -> None:
        """Complete the object if all its parts are there; if it is large, in a thread.

        `checked` tells whether its content was. Raises IntegrityError if it is another.
        """
        if checked or self._ref.instance.size_bytes <= _LATER_BYTES:
            self.complete_now(checked=checked)
        else:
            self._complete_later()

    def takes_long(self) -> bool:
        """Tell whether `complete` would hold the content against what was promised, and wait."""
        is_later = self._ref.instance.size_bytes > _LATER_BYTES
        return not is_later and self._find_full() is not None

    def settle(self) -> None:
        """See `CachedObject.settle`."""
        if (thread := self._thread) is not None:
            thread.join()
        if self._mismatch is not None:
            raise IntegrityError(*self._mismatch.args) from self._mismatch

    def complete_now(self, *, checked: bool) -> None:
        """Check an object whose parts are all there, and give it its final name."""
        full = self._find_full()
        if full is None:
            return
        held, partial = full
        try:
            if not checked and not self._check_content(held, partial):
                return
            # What takes long comes before the lock, for which the event loop may have to wait.
            self._services.scratch.flush(held.file.number)
            self._publish(held, partial)
        except IntegrityError:
            with self._lock:
                self._holding.replace(held, None)
            raise
        except (OSError, CacheError) as exc:
            # All of it is stored, though not under its final name: the next who opens it tries.
            logger.info("%s stays in parts: %s", self._paths.whole, exc)

    def _publish(self, held: Held, partial: PartialFile) -> None:
        """Have the checksums take the place of the table, and give the file its final name."""
        kept_bytes = 0

        def keep(blocks: Blocks) -> None:
            nonlocal kept_bytes
            kept_bytes = keep_sums(held.file, blocks, self._paths, self._services.scratch)

        reservation = self._services.ledger.reserve(sums_bytes(held.blocks, self._paths))
        try:
            with self._lock:
                if partial.complete(keep, self._paths.whole, self._services.scratch):
                    self._holding.replace(held, held._replace(partial=None))
                    table = table_bytes(self._ref.instance.size_bytes)
                    self._services.ledger.dropped(self._ref.series, table)
        finally:
            if kept_bytes:
                reservation.settle(self._ref.series, kept_bytes)
            reservation.release()

    def _find_full(self) -> tuple[Held, PartialFile] | None:
        held = self._holding.held
        if held is None or held.partial is None or not held.blocks.has(self._ref.whole):
            return None
        return held, held.partial

    def _complete_later(self) -> None:
        with self._lock:
            if self._find_full() is None or self._has_thread():
                return
            self._mismatch = None
        self.complete_now(checked=False)

    def _has_thread(self) -> bool:
        """Have a thread complete the object. Tell whether there is one: a host may limit them."""
        if not self._is_running:
            # A process that ends leaves the parts, and whoever opens them next goes on.
            thread = threading.Thread(
                target=self._complete_or_note, name=f"check {self._ref.key}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:
                logger.debug("checking %s at once: %s", self._ref.key, exc)
                return False
            self._thread, self._is_running = thread, True
        self._is_wanted = True
        return True

    def _complete_or_note(self) -> None:
        while self._goes_on():
            self._mismatch = None
            try:
                self.complete_now(checked=False)
            except IntegrityError as exc:
                logger.warning("%s; fetching it again", exc)
                # Its traceback would keep the file open, which has been removed.
                self._mismatch = exc.with_traceback(None)
            except CacheError as exc:
                logger.debug("%s", exc)

    def _goes_on(self) -> bool:
        """Tell whether parts have come that the thread may not have seen; it ends otherwise."""
        with self._lock:
            self._is_running, self._is_wanted = self._is_wanted, False
            return self._is_running

    def _check_content(self, held: Held, partial: PartialFile) -> bool:
        """Check the content of an object that came in pieces, before it gets its name.

        Tell whether all blocks are what was stored; those that are not become missing.
        """
        check = ContentCheck(self._ref, self._ref.whole)
        check.ask(self._find_checksums)
        if not check.knows_content:
            return True
        bad: list[int] = []
        for first in range(0, held.blocks.count, _READ_BLOCKS):
            span = held.blocks.extent_of(range(first, min(first + _READ_BLOCKS, held.blocks.count)))
            content = read_exactly(held.file, span, self._paths.whole)
            bad += held.blocks.check(span, content)
            check.update(memoryview(content))
        if bad:
            logger.warning("%s was damaged on disk (block %d)", self._paths.whole, bad[0])
            with self._lock:
                for number in bad:
                    partial.clear(range(number, number + 1))
            return False
        check.finish()
        return True
