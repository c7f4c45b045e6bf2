"""Open a compiled layout, compiling it first where need be.

Never imports DuckDB itself: a layout that is there opens in milliseconds, and
one that is not is compiled in a process of its own, whose memory goes with it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.catalog.layout import Layout
from idcfs.catalog.layout_file import FORMAT_VERSION, LayoutFile, LayoutFileError
from idcfs.errors import CacheError, IdcfsError, IndexFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idcfs.catalog.index import Index

_UNUSED_S = 30 * 86_400.0
"""A layout that nobody has opened for so long goes when another is compiled: each release of the
index makes new ones, and that of all of IDC has 136 MB."""

_ERRORS: dict[str, type[IdcfsError]] = {
    error.__name__: error for error in (UsageError, IndexFileError, CacheError)
}


def open_layout(
    index: Index,
    template: str | None,
    layouts_dir: Path,
    rows: Sequence[int] | None = None,
) -> Layout:
    """Open the layout of `index` under `template`, compiling it if `layouts_dir` has none.

    With `rows`, the layout of those index rows alone: for selections with series of
    earlier releases, which the whole index does not have. Where `layouts_dir` cannot be
    written, the layout is compiled into a temporary file that goes when it is closed.
    A first compile of the whole index takes seconds; call from a worker thread.

    Raises UsageError for a template that makes no sense, IndexFileError for an unusable
    index, CacheError if no disk takes the layout.
    """
    text = template or ""
    identity = _identity(index, text, rows)
    path = (
        layouts_dir
        / f"{hashlib.sha256(identity.encode(errors='surrogatepass')).hexdigest()[:32]}.layout"
    )
    layout = _open_existing(path, identity)
    if layout is not None:
        return layout
    request: dict[str, object] = {
        "index": str(index.path),
        "companions": {name: str(companion) for name, companion in index.companions.items()},
        "version": index.version,
        "template": text,
        "rows": None if rows is None else list(rows),
        "identity": identity,
    }
    try:
        layouts_dir.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            # Another process may have compiled it while this one waited.
            return _open_existing(path, identity) or _compile_into(path, request)
    except OSError as exc:
        if exc.errno == errno.EINTR:
            raise
        return _compile_aside(request)


def _identity(index: Index, template: str, rows: Sequence[int] | None) -> str:
    parts = [str(FORMAT_VERSION), sys.byteorder, index.fingerprint, template]
    if rows is not None:
        chosen = " ".join(map(str, sorted(set(rows))))
        parts += [index.prior_fingerprint, hashlib.sha256(chosen.encode()).hexdigest()]
    return "\n".join(parts)


def _open_existing(path: Path, identity: str) -> Layout | None:
    """Open the layout at `path`; None if there is none that can be trusted."""
    try:
        layout = Layout(LayoutFile(path, identity))
        with suppress(OSError):  # in a directory of somebody else's
            os.utime(path)  # its last use, by which `_remove_unused` goes
        return layout
    except (OSError, LayoutFileError, ValueError, LookupError, TypeError):
        # Whatever is wrong with it, compiling replaces it.
        return None


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time compile this layout; the others wait, then open its result."""
    with path.with_suffix(".lock").open("wb") as file:
        # Some network file systems have no locks: then both compile, and rename the same.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile_into(path: Path, request: dict[str, object]) -> Layout:
    descriptor, name = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        _run_compiler(request, temporary)
        layout = Layout(LayoutFile(temporary))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _remove_leftovers(path)
    _remove_unused(path.parent)
    return layout


def _remove_leftovers(path: Path) -> None:
    """Remove what compiles of this layout that were killed left behind. Needs the lock."""
    for leftover in path.parent.glob(f"{path.stem}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _remove_unused(directory: Path) -> None:
    """Remove layouts that were not opened for long. A mount that has one open keeps it."""
    for layout in directory.glob("*.layout"):
        with suppress(OSError):
            if time.time() - layout.stat().st_mtime > _UNUSED_S:
                layout.unlink()


def _compile_aside(request: dict[str, object]) -> Layout:
    """Compile into a temporary file that has no name once it is open."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="idcfs-", suffix=".layout")
    except OSError as exc:
        raise CacheError(f"no disk to write the layout to: {exc.strerror}") from exc
    os.close(descriptor)
    temporary = Path(name)
    try:
        _run_compiler(request, temporary)
        return Layout(LayoutFile(temporary))
    except OSError as exc:
        raise CacheError(f"cannot write the layout to {temporary.parent}: {exc.strerror}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def child_command(module: str) -> tuple[list[str], dict[str, str]]:
    """Return how to run a module of ours in another process: command and environment."""
    import idcfs

    source = str(Path(idcfs.__file__).parent.parent)
    search = os.pathsep.join(dict.fromkeys([source, *filter(None, sys.path)]))
    # -P: the working directory, which may be anyone's, must not provide modules.
    return [sys.executable, "-P", "-m", module], {**os.environ, "PYTHONPATH": search}


def _run_compiler(request: dict[str, object], output: Path) -> None:
    """Compile in a child process. Raises what the child met; OSError if it could not write."""
    command, environment = child_command("idcfs.catalog.compile")
    finished = subprocess.run(
        command,
        input=json.dumps({**request, "output": str(output)}).encode(),
        capture_output=True,
        env=environment,
        check=False,
    )
    try:
        outcome = json.loads(finished.stdout)
    except ValueError:
        outcome = {"error": "died", "message": _last_words(finished)}
    if not outcome:
        return
    if outcome["error"] == "OSError":
        raise OSError(outcome["errno"], outcome["message"])
    error = _ERRORS.get(outcome["error"], IndexFileError)
    raise error(outcome["message"])


def _last_words(finished: subprocess.CompletedProcess[bytes]) -> str:
    lines = finished.stderr.decode(errors="replace").strip().splitlines()
    said = f": {lines[-1]}" if lines else ""
    if finished.returncode < 0:
        return f"compiling the layout was killed by signal {-finished.returncode}{said}"
    return f"compiling the layout failed{said}"
