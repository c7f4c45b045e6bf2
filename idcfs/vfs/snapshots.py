"""What an open directory shows: fixed when it is opened, told entry by entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from idcfs.vfs.attributes import Attributes

T = TypeVar("T")


class Snapshot(Generic[T]):
    """The entries of one directory at the moment it was opened.

    `children` holds names and what is needed to describe them; attributes are made
    by `describe` only as entries are told, because a wide directory is read in many
    small pieces. Positions count `.` as 0, `..` as 1, then the children; the position
    given with an entry is that of the next, so a reader may come back to it.
    """

    def __init__(
        self,
        *,
        here: Attributes,
        above: Attributes,
        children: Sequence[tuple[str, T]],
        describe: Callable[[T], Attributes],
    ) -> None:
        self._dots = ((".", here), ("..", above))
        self._children = children
        self._describe = describe

    def entries(self, start: int) -> Iterator[tuple[str, Attributes, int]]:
        """Yield name, attributes and next position of each entry from `start` on."""
        for position in range(start, len(self._dots)):
            name, attributes = self._dots[position]
            yield name, attributes, position + 1
        first = max(start - len(self._dots), 0)
        for index in range(first, len(self._children)):
            name, child = self._children[index]
            yield name, self._describe(child), index + len(self._dots) + 1
