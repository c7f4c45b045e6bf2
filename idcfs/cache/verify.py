"""Checks a body against what the listing promised of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from idcfs.errors import IntegrityError

if TYPE_CHECKING:
    from idcfs.model import Extent, ObjectRef


class ContentCheck:
    """Follows the bytes of one extent as they arrive and judges them at the end.

    The length is always checked. The MD5 is checked when the extent is the whole
    object and its ETag is an MD5, unless `md5` says that the length will do.
    """

    def __init__(self, ref: ObjectRef, extent: Extent, *, md5: bool = True) -> None:
        self._ref = ref
        self._expected = extent.length
        self._received = 0
        self.covers_whole = extent == ref.whole
        """Whether the extent is the whole object."""
        self._md5 = ref.instance.md5 if md5 and self.covers_whole else None
        # Not for security: MD5 is what the store offers against damage on the way.
        self._digest = hashlib.md5(usedforsecurity=False) if self._md5 else None

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        self._received += len(chunk)
        if self._digest is not None:
            self._digest.update(chunk)

    def finish(self) -> None:
        """Raise IntegrityError unless exactly the promised bytes have come."""
        if self._received != self._expected:
            raise IntegrityError(
                f"{self._ref.url}: {self._received} bytes arrived, {self._expected} were expected"
            )
        if self._digest is not None and self._digest.hexdigest() != self._md5:
            raise IntegrityError(
                f"{self._ref.url}: the content's MD5 is {self._digest.hexdigest()}, "
                f"the store promised {self._md5}"
            )
