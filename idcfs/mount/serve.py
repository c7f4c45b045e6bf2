"""Wires a mount from its parts and serves it until it is unmounted or told to stop."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.errors import IdcfsError, MountError, UsageError
from idcfs.fetch import EXTRA_BYTES, Fetcher, Limiters
from idcfs.fuse import Adapter, Session
from idcfs.mount.collector import collect_rarely
from idcfs.mount.hidden_files import hidden_files
from idcfs.mount.logs import switch_level_at_signals
from idcfs.mount.metered import MeteredStore
from idcfs.mount.readahead import may_raise_readahead, raise_readahead
from idcfs.mount.report import MountReport
from idcfs.vfs.extended import ExtendedAttributes
from idcfs.vfs.figures import RequestFigures
from idcfs.vfs.filesystem import DIRECTORY_LIMIT_FILES, FileSystem
from idcfs.vfs.hidden import HiddenDirectory
from idcfs.vfs.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from idcfs.cache import Cache
    from idcfs.catalog.index import Index
    from idcfs.mount.notify import ServiceManager
    from idcfs.store import ObjectStore
    from idcfs.vfs.attributes import Ownership
    from idcfs.vfs.extended import Presence, SeriesFacts
    from idcfs.vfs.tree import DirectoryTree

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
"""How long fetches under way may go on after a signal before their readers get an error."""


def check_width(tree: DirectoryTree) -> None:
    """Refuse a tree that is one flat directory of more files than can be listed."""
    if tree.is_leaf(ROOT) and tree.totals.instance_count > DIRECTORY_LIMIT_FILES:
        raise UsageError(
            f"a flat mount would put {tree.totals.instance_count:,} files into one directory "
            f"(the limit is {DIRECTORY_LIMIT_FILES:,}): mount a selection, for example "
            "--collection-id or --series-instance-uid, or use a template with levels, for "
            "example --dir-template %collection_id/%PatientID/%SeriesInstanceUID"
        )


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the mount tells of its files and of itself beyond the tree."""

    facts: SeriesFacts
    presence: Presence
    common: Sequence[frozenset[str]]
    """These three as for `ExtendedAttributes`."""
    index: Index
    cache_dir: Path


async def serve(
    *,
    tree: DirectoryTree,
    store: ObjectStore,
    cache: Cache,
    ownership: Ownership,
    knowledge: Knowledge,
    mountpoint: Path,
    options: Collection[str],
    ready: Callable[[], None],
    manager: ServiceManager,
) -> None:
    """Mount, call `ready` when requests are answered, and serve until the end.

    SIGTERM and SIGINT unmount in order; a second one drops what is under way. `manager` is
    told that it stops, and its watchdog fed.
    Raises MountError if the file system cannot be mounted.
    """
    collect_rarely()
    with _lone_errors():
        async with trio.open_nursery() as services:
            extra_bytes = 0 if may_raise_readahead() else EXTRA_BYTES
            limiters, metered, requests = Limiters(), MeteredStore(store), RequestFigures()
            fetcher = Fetcher(
                store=metered,
                cache=cache,
                nursery=services,
                limiters=limiters,
                extra_bytes=extra_bytes,
            )
            file_system = FileSystem(tree=tree, fetcher=fetcher, ownership=ownership)
            extended = ExtendedAttributes(
                file_system=file_system,
                tree=tree,
                facts=knowledge.facts,
                presence=knowledge.presence,
                common=knowledge.common,
            )
            report = MountReport(
                mountpoint=mountpoint,
                release=knowledge.index.release,
                index_version=knowledge.index.version,
                totals=tree.totals,
                cache_dir=knowledge.cache_dir,
                requests=requests,
                store=metered,
                fetcher=fetcher,
                limiters=limiters,
            )
            hidden = HiddenDirectory(
                hidden_files(report, tree, knowledge.index), tree=tree, ownership=ownership
            )
            adapter = Adapter(file_system, extended, hidden, requests)
            session = Session(adapter, mountpoint, options)
            try:
                async with trio.open_nursery() as watching:
                    await watching.start(_stop_at_signal, session, services.cancel_scope, manager)
                    await watching.start(switch_level_at_signals)
                    answered = trio.Event()
                    watching.start_soon(_announce, mountpoint, answered, ready)
                    watching.start_soon(manager.feed_watchdog, mountpoint)
                    await session.run()
                    if not answered.is_set():
                        raise MountError(
                            f"the mount at {mountpoint} ended before it answered (the reason "
                            "stands above, if the system gave one); check the options given "
                            "with -o"
                        )
                    watching.cancel_scope.cancel()
            finally:
                manager.stopping()
                services.cancel_scope.cancel()
                store.close()  # ends the pauses between attempts
                session.close()
                fetcher.close()
                logger.info("unmounted %s", mountpoint)


async def _announce(mountpoint: Path, answered: trio.Event, ready: Callable[[], None]) -> None:
    """Call `ready` once the kernel has had an answer from us."""
    try:
        await trio.to_thread.run_sync(os.statvfs, mountpoint, abandon_on_cancel=True)
        await trio.to_thread.run_sync(raise_readahead, mountpoint, abandon_on_cancel=True)
    except OSError:  # it ended before it answered, which `serve` tells
        return
    answered.set()
    ready()


@contextmanager
def _lone_errors() -> Iterator[None]:
    """Raise one of our errors by itself: nurseries wrap what leaves them."""
    try:
        yield
    except BaseExceptionGroup as group:
        if (errors := group.subgroup(IdcfsError)) is not None:
            raise _first(errors) from group
        raise


def _first(group: BaseExceptionGroup[IdcfsError]) -> IdcfsError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _stop_at_signal(
    session: Session,
    fetches: trio.CancelScope,
    manager: ServiceManager,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            logger.info("got %s, unmounting", signal.Signals(number).name)
            manager.stopping()
            session.stop()
            with trio.move_on_after(_GRACE_S):
                await anext(signals)
            fetches.cancel()
