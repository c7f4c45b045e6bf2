"""Prepares the next index for a mount, in a process of its own while the mount serves.

Choosing the series, compiling the layout and comparing it with the one that is shown take
seconds, DuckDB and hundreds of megabytes. The child (`python -m idcfs.mount.succession`) gets
a version and a `_Question` on standard input, and gives an `_Answer`, None for no news, or an
error on standard output; all pickled, since both are this program.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import idcfs
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.layout import Layout
from idcfs.catalog.layout_file import LayoutFile
from idcfs.catalog.layouts import child_command
from idcfs.catalog.numbering import Numbering
from idcfs.catalog.succession import Changes, Predecessor, number_directories, number_series
from idcfs.errors import IdcfsError, IndexFileError
from idcfs.mount.trees import Shown, View
from idcfs.vfs.tree import ROOT
from idcfs.vfs.views import directory_in_view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    from idcfs.catalog.index import Index
    from idcfs.model import DirectoryId
    from idcfs.mount.request import MountRequest
    from idcfs.mount.trees import TreeSource

logger = logging.getLogger(__name__)

_NICENESS = 10
"""The readers of the mount come first."""


@dataclass(frozen=True, slots=True)
class Succession:
    """What a mount is to show next, and how it differs from what it shows."""

    shown: Shown
    changes: Changes
    series_added: int
    series_removed: int


@dataclass(frozen=True, slots=True)
class _OldView:
    """A tree that is shown now, for another process to open."""

    source: TreeSource
    layout: Path
    numbering: Numbering | None

    def open(self) -> Predecessor:
        layout = Layout(LayoutFile(self.layout))
        if self.source.rows is not None and not self.source.has_earlier:
            layout = layout.narrow(self.source.rows)
        return Predecessor(layout, self.numbering)


@dataclass(frozen=True, slots=True)
class _Question:
    request: MountRequest
    index: Index
    """This and the views: what is shown now."""
    views: Mapping[str, _OldView]


@dataclass(frozen=True, slots=True)
class _Answer:
    index: Index
    sources: Mapping[str, TreeSource]
    problems: Sequence[str]
    numberings: Mapping[str, Numbering]
    changes: Changes
    series_added: int
    series_removed: int


async def find_succession(request: MountRequest, shown: Shown) -> Succession | None:
    """Return what the mount is to show next; None if it would show the same as now.

    Cancelling ends the child. Raises IndexFileError, UsageError or CacheError: then the next
    index cannot be shown.
    """
    descriptors = {name: view.layout.layout.descriptor for name, view in shown.views.items()}
    views = {
        name: _OldView(
            view.source, Path(f"/proc/self/fd/{descriptors[name]}"), view.layout.numbering
        )
        for name, view in shown.views.items()
    }
    question = _Question(request, shown.index, views)
    command, environment = child_command(__name__)
    # Through files, since a daemon's heap would keep the room for 30 MB at a time.
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as told:
        await trio.to_thread.run_sync(_ask, question, asked)
        done = await trio.run_process(
            command,
            stdin=asked,
            stdout=told,
            capture_stderr=True,
            check=False,
            env=environment,
            pass_fds=(*descriptors.values(), *request.kept_files),
            start_new_session=True,  # so that compilers of its own can be ended with it
            deliver_cancel=_kill_group,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            last = f": {said[-1]}" if said else ""
            raise IndexFileError(f"the process that reads the index has died{last}")
        return await trio.to_thread.run_sync(_take, request, told)


def _ask(question: _Question, asked: BinaryIO) -> None:
    pickle.dump(idcfs.__version__, asked)
    pickle.dump(question, asked)
    asked.seek(0)


def _take(request: MountRequest, told: BinaryIO) -> Succession | None:
    """Read an answer, and open what it says. Raises the error that it is."""
    told.seek(0)
    answer = pickle.load(told)
    if isinstance(answer, Exception):
        raise answer
    if answer is None:
        return None
    assert isinstance(answer, _Answer)
    for problem in answer.problems:
        logger.warning("%s", problem)
    layouts = request.open_layouts(answer.index, answer.sources)
    views = {
        name: View(source, Predecessor(layouts[name], answer.numberings[name]))
        for name, source in answer.sources.items()
    }
    shown = Shown.of(answer.index, views)
    return Succession(shown, answer.changes, answer.series_added, answer.series_removed)


async def _kill_group(child: trio.Process) -> None:
    os.killpg(child.pid, signal.SIGKILL)  # it has nothing to lose


def main() -> None:
    """Answer the question on standard input."""
    os.nice(_NICENESS)
    answer: _Answer | IdcfsError | None
    try:
        answer = _answer(sys.stdin.buffer)
    except IdcfsError as exc:
        answer = exc
    pickle.dump(answer, sys.stdout.buffer)


def _answer(stdin: BinaryIO) -> _Answer | None:
    version = pickle.load(stdin)
    if version != idcfs.__version__:
        raise IndexFileError(
            f"idcfs {version}, which serves this mount, has been replaced by idcfs "
            f"{idcfs.__version__}; unmount and mount again"
        )
    question = pickle.load(stdin)
    assert isinstance(question, _Question)
    catalog = Catalog.open(question.request.index_path)
    sources, problems = question.request.tree_sources(catalog)
    old_sources = {name: view.source for name, view in question.views.items()}
    if sources == old_sources and _same(catalog.index, question.index, sources):
        return None
    before = {name: view.open() for name, view in question.views.items()}
    after = question.request.open_layouts(catalog.index, sources)
    series = number_series(list(before.values()), list(after.values()))
    numberings, changes = {}, Changes()
    for position, (name, layout) in enumerate(after.items()):
        levels, found = number_directories(before[name], layout)
        numberings[name] = Numbering(levels, series.numbers)
        _add_changes(changes, found, name, position)
    return _Answer(
        catalog.index, sources, problems, numberings, changes, series.added, series.removed
    )


def _add_changes(changes: Changes, found: Changes, view: str, position: int) -> None:
    """Add what changed in a view, by the numbers that its directories have among others."""

    def outside(directory: DirectoryId) -> DirectoryId:
        return directory_in_view(position, directory) if view else directory

    changes.entries.extend((outside(directory), names) for directory, names in found.entries)
    changes.leaves.extend(map(outside, found.leaves))
    if view and ROOT in found.leaves:
        changes.entries.append((ROOT, [view]))


def _same(index: Index, other: Index, sources: Mapping[str, TreeSource]) -> bool:
    """Tell whether trees over either index are the same."""
    if index.fingerprint != other.fingerprint:
        return False
    with_earlier = any(source.has_earlier for source in sources.values())
    return not with_earlier or index.prior_fingerprint == other.prior_fingerprint


if __name__ == "__main__":
    # By its name, not as `__main__`: what is pickled must be found again by the parent.
    from idcfs.mount import succession

    succession.main()
