"""Prepares the next index for a mount, in a process of its own while the mount serves.

Choosing the series, compiling the layout and comparing it with the one that is shown take
seconds, DuckDB and hundreds of megabytes. The child (`python -m idcfs.mount.succession`) gets
a version and a `_Question` on standard input, and gives a `_Answer`, or the message of an
error, on standard output; all pickled, since both are this program. What it prints on
standard error goes into the mount's log.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import idcfs
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.facts import SeriesFacts
from idcfs.catalog.layout import Layout
from idcfs.catalog.layout_file import LayoutFile
from idcfs.catalog.layouts import child_command
from idcfs.catalog.numbering import Numbering
from idcfs.catalog.succession import Predecessor, number_directories, number_series
from idcfs.errors import IdcfsError, IndexFileError
from idcfs.mount.trees import Shown, layouts_directory

if TYPE_CHECKING:
    from typing import BinaryIO

    from idcfs.catalog.index import Index
    from idcfs.catalog.succession import Changes
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
class _Question:
    request: MountRequest
    index: Index
    """This and what follows: what is shown now."""
    source: TreeSource
    layout: Path
    numbering: Numbering | None


@dataclass(frozen=True, slots=True)
class _Answer:
    index: Index
    source: TreeSource
    numbering: Numbering
    changes: Changes
    series_added: int
    series_removed: int


async def find_succession(request: MountRequest, shown: Shown) -> Succession | None:
    """Return what the mount is to show next; None if it would show the same as now.

    Cancelling ends the child. Raises IndexFileError, UsageError or CacheError: then the next
    index cannot be shown.
    """
    question = _Question(
        request,
        shown.index,
        shown.source,
        Path(f"/proc/self/fd/{shown.layout.layout.descriptor}"),
        shown.layout.numbering,
    )
    command, environment = child_command(__name__)
    done = await trio.run_process(
        command,
        stdin=pickle.dumps(idcfs.__version__) + pickle.dumps(question),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment,
        pass_fds=(shown.layout.layout.descriptor, *request.kept_files),
        start_new_session=True,  # so that compilers of its own can be ended with it
        deliver_cancel=_kill_group,
    )
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode:
        last = f": {said[-1]}" if said else ""
        raise IndexFileError(f"the process that reads the index has died{last}")
    for line in said:
        logger.warning("%s", line)
    answer = pickle.loads(done.stdout)
    if isinstance(answer, Exception):
        raise answer
    if answer is None:
        return None
    assert isinstance(answer, _Answer)
    return await trio.to_thread.run_sync(functools.partial(_open, request, answer))


async def _kill_group(child: trio.Process) -> None:
    os.killpg(child.pid, signal.SIGKILL)  # it has nothing to lose


def _open(request: MountRequest, answer: _Answer) -> Succession:
    layout = answer.source.open(answer.index, layouts_directory(request.cache_dir))
    shown = Shown(
        answer.index,
        answer.source,
        Predecessor(layout, answer.numbering),
        SeriesFacts(answer.index),
    )
    return Succession(shown, answer.changes, answer.series_added, answer.series_removed)


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
    source = question.request.tree_source(catalog)
    if source == question.source and _same(catalog.index, question.index, source):
        return None
    layout = Layout(LayoutFile(question.layout))
    if question.source.rows is not None and not question.source.has_earlier:
        layout = layout.narrow(question.source.rows)
    before = Predecessor(layout, question.numbering)
    after = source.open(catalog.index, layouts_directory(question.request.cache_dir))
    series = number_series([before], [after])
    levels, changes = number_directories(before, after)
    numbering = Numbering(levels, series.numbers)
    return _Answer(catalog.index, source, numbering, changes, series.added, series.removed)


def _same(index: Index, other: Index, source: TreeSource) -> bool:
    """Tell whether a tree over either index is the same."""
    if index.fingerprint != other.fingerprint:
        return False
    return not source.has_earlier or index.prior_fingerprint == other.prior_fingerprint


if __name__ == "__main__":
    # By its name, not as `__main__`: what is pickled must be found again by the parent.
    from idcfs.mount import succession

    succession.main()
