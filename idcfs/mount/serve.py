"""Wires a mount from its parts and serves it until it is unmounted or told to stop."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.cache.opening import is_remote
from idcfs.errors import IdcfsError, MountError
from idcfs.fetch import EXTRA_BYTES, Fetcher, Limiters
from idcfs.fetch.collector import collect_rarely
from idcfs.fuse import Adapter, KernelCache, Session
from idcfs.mount.hidden_files import hidden_files
from idcfs.mount.logs import switch_level_at_signals
from idcfs.mount.metered import MeteredStore
from idcfs.mount.probe import Probe
from idcfs.mount.question import Answer
from idcfs.mount.readahead import may_raise_readahead, raise_readahead
from idcfs.mount.refresh import Refresher
from idcfs.mount.report import MountReport
from idcfs.vfs.extended import ExtendedAttributes
from idcfs.vfs.figures import RequestFigures
from idcfs.vfs.filesystem import FileSystem
from idcfs.vfs.hidden import HiddenDirectory

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from idcfs.cache import DiskCache
    from idcfs.mount.notify import ServiceManager
    from idcfs.mount.succession import Succession
    from idcfs.mount.trees import Showing, Shown
    from idcfs.store import ObjectStore
    from idcfs.store.outage import Outage
    from idcfs.vfs.attributes import Ownership
    from idcfs.vfs.extended import Presence

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
"""How long fetches under way may go on after a signal before their readers get an error."""

_PATIENCE_S = 30.0
"""A mount answers its first question within milliseconds of `mount(2)`; on a machine that is
short of everything, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a mount is made of before it has an event loop."""

    mountpoint: Path
    options: Collection[str]
    """For the kernel and libfuse."""
    showing: Showing
    find_succession: Callable[[Shown], Awaitable[Succession | None]]
    """Gives what to show instead, or None if that is shown already."""
    ownership: Ownership
    presence: Presence
    common: Mapping[str, Sequence[frozenset[str]]]
    """These two as for `ExtendedAttributes`."""
    store: ObjectStore
    outage: Outage
    cache: DiskCache
    cache_dir: Path
    manager: ServiceManager
    """Told that the mount stops; its watchdog is fed."""
    in_foreground: bool
    """As in the `MountRequest`."""


async def serve(parts: Parts, ready: Callable[[], None]) -> None:
    """Mount, call `ready` when requests are answered, and serve until the end.

    SIGTERM and SIGINT unmount in order; a second one drops what is under way. At SIGHUP, or
    when it is asked through the hidden directory, the mount goes on to what `find_succession`
    gives. Raises MountError if the file system cannot be mounted.
    """
    collect_rarely()
    with _lone_errors():
        async with trio.open_nursery() as services:
            limiters, metered = Limiters(), MeteredStore(parts.store)
            fetcher = Fetcher(
                store=metered,
                cache=parts.cache,
                nursery=services,
                limiters=limiters,
                extra_bytes=0 if may_raise_readahead() else EXTRA_BYTES,
                fills_together=not (parts.cache.shared or is_remote(parts.cache_dir)),
            )
            adapter, refresher = _wire(parts, fetcher, metered, limiters)
            probe = Probe(parts.mountpoint)
            session = Session(adapter, parts.mountpoint, parts.options)
            try:
                await _run(parts, session, probe, refresher, services.cancel_scope, ready)
            finally:
                parts.manager.stopping()
                services.cancel_scope.cancel()
                parts.store.close()  # ends the pauses between attempts
                session.close()
                fetcher.close()
                logger.info("unmounted %s", parts.mountpoint)


def _wire(
    parts: Parts, fetcher: Fetcher, metered: MeteredStore, limiters: Limiters
) -> tuple[Adapter, Refresher]:
    """Return what answers the kernel, and what moves it on to another index."""
    showing, requests = parts.showing, RequestFigures()
    file_system = FileSystem(tree=showing.now.tree, fetcher=fetcher, ownership=parts.ownership)
    extended = ExtendedAttributes(
        file_system=file_system,
        facts=showing.now.facts,
        presence=parts.presence,
        common=parts.common,
    )
    report = MountReport(
        mountpoint=parts.mountpoint,
        showing=showing,
        cache_dir=parts.cache_dir,
        outage=parts.outage,
        requests=requests,
        store=metered,
        fetcher=fetcher,
        limiters=limiters,
    )
    refresher = Refresher(
        mountpoint=parts.mountpoint,
        showing=showing,
        find_succession=parts.find_succession,
        file_system=file_system,
        extended=extended,
        kernel=KernelCache(),
        manager=parts.manager,
        in_foreground=parts.in_foreground,
    )
    hidden = HiddenDirectory(
        hidden_files(report, showing),
        tree=lambda: file_system.edition.tree,
        ownership=parts.ownership,
        daemon_uid=os.getuid(),
        unlisted={"refresh": refresher.refresh_as_file},
    )
    return Adapter(file_system, extended, hidden, requests), refresher


async def _run(
    parts: Parts,
    session: Session,
    probe: Probe,
    refresher: Refresher,
    fetches: trio.CancelScope,
    ready: Callable[[], None],
) -> None:
    """Answer requests until the mount ends, with all that watches over it meanwhile."""
    mountpoint, manager = parts.mountpoint, parts.manager
    async with trio.open_nursery() as watching:
        answered, stopped = trio.Event(), trio.Event()
        await watching.start(_stop_at_signal, session, refresher, fetches, manager, stopped)
        await watching.start(refresher.refresh_at_signals)
        await watching.start(switch_level_at_signals)
        watching.start_soon(_announce, probe, mountpoint, answered, ready)
        watching.start_soon(manager.feed_watchdog, probe.ask)
        await session.run()
        if not (answered.is_set() or stopped.is_set()):
            raise MountError(
                f"the mount at {mountpoint} ended before it answered (the reason stands above, "
                "if the system gave one); check the options given with -o"
            )
        watching.cancel_scope.cancel()


async def _announce(
    probe: Probe, mountpoint: Path, answered: trio.Event, ready: Callable[[], None]
) -> None:
    """Call `ready` once the kernel has had an answer from us, or nobody can be sent to ask."""
    while (told := await probe.ask(_PATIENCE_S)).answer is Answer.MISSING:
        logger.warning("the mount at %s is not ready yet: %s", mountpoint, told.reason)
    if told.answer is Answer.REFUSED:  # it ended before it answered, which `serve` tells
        return
    if told.answer is Answer.UNKNOWN:
        logger.info("cannot ask %s whether it answers: %s", mountpoint, told.reason)
    await trio.to_thread.run_sync(raise_readahead, mountpoint, abandon_on_cancel=True)
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
    refresher: Refresher,
    fetches: trio.CancelScope,
    manager: ServiceManager,
    stopped: trio.Event,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        number = await anext(signals)
        logger.info("got %s, unmounting", signal.Signals(number).name)
        stopped.set()
        manager.stopping()
        async with trio.open_nursery() as ending:
            ending.start_soon(_drop_when_late, signals, fetches)
            await refresher.aclose()  # before nobody answers requests any more
            session.stop()


async def _drop_when_late(signals: AsyncIterator[int], fetches: trio.CancelScope) -> None:
    """Drop what is under way after a while, or at another signal."""
    with trio.move_on_after(_GRACE_S):
        another = await anext(signals)
        logger.info("got %s, dropping what is under way", signal.Signals(another).name)
    fetches.cancel()
    async for _ in signals:
        pass
