"""Moves a mount on to another index while it serves: at SIGHUP, or when `idcfs refresh` asks."""

from __future__ import annotations

import json
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import trio

from idcfs.errors import IdcfsError, MountError
from idcfs.mount.papers import as_file
from idcfs.vfs.inodes import ROOT_INODE, inode_of_directory
from idcfs.vfs.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from idcfs.catalog.succession import Changes
    from idcfs.mount.notify import ServiceManager
    from idcfs.mount.succession import Succession
    from idcfs.mount.trees import Showing, Shown
    from idcfs.vfs.edition import Edition
    from idcfs.vfs.extended import ExtendedAttributes
    from idcfs.vfs.filesystem import FileSystem
    from idcfs.vfs.inodes import Inode
    from idcfs.vfs.tree import DirectoryId

    _Names = tuple[DirectoryId, Iterable[str]]
    """A directory and names in it."""

logger = logging.getLogger(__name__)


class KernelCache(Protocol):
    """What the kernel remembers of a mount; see `fuse.kernel`."""

    async def forget_names(self, names: Iterable[tuple[Inode, Iterable[str]]]) -> None:
        """Have names in directories looked up anew. May wait until requests are answered."""
        ...

    def forget_attributes(self, inode: Inode) -> None:
        """Have the attributes of an inode asked for anew."""
        ...


class Refresher:
    """Goes on to the next index, one request after the other. On the trio thread."""

    def __init__(
        self,
        *,
        mountpoint: Path,
        showing: Showing,
        find_succession: Callable[[Shown], Awaitable[Succession | None]],
        file_system: FileSystem,
        extended: ExtendedAttributes,
        kernel: KernelCache,
        manager: ServiceManager,
        in_foreground: bool,
    ) -> None:
        self._mountpoint = mountpoint
        self._showing = showing
        self._find_succession = find_succession
        self._file_system = file_system
        self._extended = extended
        self._kernel = kernel
        self._manager = manager
        self._in_foreground = in_foreground
        self._one_at_a_time = trio.Lock()
        self._under_way = trio.CancelScope()
        self._ends = False

    async def refresh(self) -> dict[str, Any]:
        """Go on to the index as it is now; return what that changed.

        What has failed leaves the mount as it was, is logged, and is told as `error`.
        """
        async with self._one_at_a_time:
            with trio.CancelScope() as self._under_way:
                if self._ends:
                    self._under_way.cancel()
                try:
                    return await self._refresh()
                except IdcfsError as exc:
                    return self._failed(str(exc))
                except OSError as exc:
                    return self._failed(exc.strerror or str(exc))
                except Exception as exc:
                    logger.exception("the refresh failed; this is a bug in idcfs")
                    return self._failed(f"unexpected {type(exc).__name__}: {exc}")
        raise MountError(f"{self._mountpoint} is being unmounted")

    async def refresh_as_file(self) -> BinaryIO:
        """Return a file that tells, as JSON, what a refresh changed."""
        return as_file(json.dumps(await self.refresh()).encode() + b"\n")

    async def refresh_at_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Refresh at each SIGHUP.

        Unless that means that the terminal has gone in whose foreground this runs: which
        ends the mount, as Ctrl-C does.
        """
        # Who goes into the background leaves the terminal too, which is not the terminal's end.
        had_terminal = self._in_foreground and os.isatty(0)
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if had_terminal and not os.isatty(0):
                    signal.raise_signal(signal.SIGTERM)
                else:
                    with suppress(MountError):  # it is being unmounted
                        await self.refresh()

    async def aclose(self) -> None:
        """End what is under way, wait for it, and refuse what comes.

        The kernel may be in the middle of forgetting, and waiting for an answer: requests should
        be served until this returns.
        """
        self._ends = True
        self._under_way.cancel()
        async with self._one_at_a_time:
            pass

    async def _refresh(self) -> dict[str, Any]:
        before = self._showing.now
        succession = await self._find_succession(before)
        if succession is None:
            logger.info("nothing to refresh: %s is shown already", before.index.release)
            return self._outcome(refreshed=False)
        old, shown = self._file_system.edition, succession.shown
        self._showing.now = shown
        self._file_system.show(shown.tree)
        self._extended.show(shown.facts)
        stale = [*self._stale_names(old, succession.changes), *succession.changes.entries]
        await self._forget(stale)
        await trio.to_thread.run_sync(before.facts.close)
        self._manager.status(f"{shown.index.release} at {self._mountpoint}")
        logger.info("%s is shown instead of %s", shown.index.version, before.index.version)
        return self._outcome(
            refreshed=True,
            series_added=succession.series_added,
            series_removed=succession.series_removed,
        )

    def _stale_names(self, old: Edition, changes: Changes) -> list[_Names]:
        """Return the names of files that the kernel would go on to show where they are no more.

        It forgets what is below a directory that it is told to forget, except what is open;
        and the root, which has all files of a flat mount, it cannot forget.
        """
        leaves = set(changes.leaves)
        stale: list[_Names] = [(leaf, old.known_leaf(leaf)) for leaf in leaves & {ROOT}]
        for file in self._file_system.open_files():
            for leaf in leaves.intersection(old.tree.leaves_of(file.series)):
                stale.append((leaf, old.names_of(file, leaf)))
        return stale

    async def _forget(self, stale: Sequence[_Names]) -> None:
        """Take back what the kernel remembers of names, and of the directories they are in."""
        directories = [inode_of_directory(directory) for directory, _ in stale]
        names = (found for _, found in stale)
        try:
            await self._kernel.forget_names(zip(directories, names, strict=True))
            # Never abandoned: the session must outlast it.
            await trio.to_thread.run_sync(self._forget_attributes, [*directories, ROOT_INODE])
        except OSError as exc:
            logger.warning("the kernel shows some names as before for a day: %s", exc.strerror)

    def _forget_attributes(self, inodes: Iterable[Inode]) -> None:
        for inode in inodes:
            self._kernel.forget_attributes(inode)

    def _failed(self, reason: str) -> dict[str, Any]:
        logger.warning("the refresh failed, %s stays: %s", self._showing.now.index.release, reason)
        return self._outcome(refreshed=False, error=reason)

    def _outcome(self, **what: object) -> dict[str, Any]:
        index, totals = self._showing.now.index, self._showing.now.tree.totals
        return {
            "mountpoint": str(self._mountpoint),
            "release": index.release,
            "index_version": index.version,
            "series": totals.series_count,
            **what,
        }
