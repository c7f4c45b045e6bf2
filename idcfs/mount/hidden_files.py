"""What lies in the hidden directory of a mount."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, BinaryIO

import trio

import idcfs
from idcfs.mount.papers import as_file, write_citations, write_manifest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.mount.report import MountReport
    from idcfs.mount.trees import Showing


def hidden_files(
    report: MountReport, showing: Showing
) -> dict[str, Callable[[], Awaitable[BinaryIO]]]:
    """Return the files by name, each with what makes its content when it is opened."""
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
        return as_file(
            f"idcfs {idcfs.__version__}\nidc-index-data {showing.now.index.version}\n".encode()
        )

    return {
        "status.json": status,
        "metrics": metrics,
        "version": versions,
        "manifest": written(lambda: write_manifest(showing.now.tree)),
        "citations": written(lambda: write_citations(showing.now.tree, showing.now.index.path)),
    }
