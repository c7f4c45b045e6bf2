"""What lies in the hidden directory of a mount."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, BinaryIO

import trio

import idcfs
from idcfs.mount.papers import as_file, write_citations, write_manifest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.catalog.index import Index
    from idcfs.mount.report import MountReport
    from idcfs.vfs.tree import DirectoryTree


def hidden_files(
    report: MountReport, tree: DirectoryTree, index: Index
) -> dict[str, Callable[[], Awaitable[BinaryIO]]]:
    """Return the files by name, each with what makes its content when it is opened."""
    version = f"idcfs {idcfs.__version__}\nidc-index-data {index.version}\n".encode()
    one_at_a_time = trio.CapacityLimiter(1)  # they take memory and time

    def written(write: Callable[[], BinaryIO]) -> Callable[[], Awaitable[BinaryIO]]:
        return functools.partial(
            trio.to_thread.run_sync, write, limiter=one_at_a_time, abandon_on_cancel=True
        )

    async def status() -> BinaryIO:
        return as_file(report.as_json())

    async def metrics() -> BinaryIO:
        return as_file(report.as_metrics())

    async def versions() -> BinaryIO:
        return as_file(version)

    return {
        "status.json": status,
        "metrics": metrics,
        "version": versions,
        "manifest": written(functools.partial(write_manifest, tree)),
        "citations": written(functools.partial(write_citations, tree, index.path)),
    }
