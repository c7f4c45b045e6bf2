"""Looks at what is there, and touches nothing: the dry run of a prefetch that checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.fetch import Brought, Fetcher
    from idcfs.model import ObjectRef, Series
    from idcfs.prefetch.targets import Target


class OnlyExamined:
    """A `Target` that brings nothing: what is not right in the other one is a failure."""

    downloads = False

    def __init__(self, target: Target) -> None:
        self._target = target

    async def bring(self, fetcher: Fetcher, ref: ObjectRef, directory: str) -> Brought:
        """Return what is there, in place of bringing it. Raises NotRightError."""
        return await self._target.examine(fetcher, ref, directory)

    examine = bring

    def place(self, ref: ObjectRef, directory: str) -> str | None:
        """See `Target.place`."""
        return self._target.place(ref, directory)

    def present_bytes(self, series: Series, directory: str) -> int:
        """See `Target.present_bytes`."""
        return self._target.present_bytes(series, directory)
