"""What a mount holds, as texts: the manifest of its series, and what to cite for them."""

from __future__ import annotations

import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from idcfs.catalog.layouts import child_command
from idcfs.errors import IndexFileError
from idcfs.model import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.model import DirectoryId, Series
    from idcfs.vfs.tree import DirectoryTree

_IN_MEMORY_BYTES = 1 << 20


def write_manifest(tree: DirectoryTree) -> BinaryIO:
    """Return a file with the `s3://` lines of all series. Takes seconds for a million."""
    text = _scratch_file()
    written = bytearray()  # by number, of a million at most
    for series in _all_series(tree, ROOT):
        written.extend(bytes(max(0, series.number + 1 - len(written))))
        if written[series.number]:  # in another view
            continue
        written[series.number] = 1
        text.write(f"s3://{series.bucket}/{series.prefix}*\n".encode())
    text.seek(0)
    return text


def write_citations(tree: DirectoryTree, index_path: Path) -> BinaryIO:
    """Return a file with what `idcfs cite` says of all series.

    That is asked of a process of its own, since it needs DuckDB, and one that neither
    configuration nor variables narrow. Raises IndexFileError if it fails.
    """
    command, environment = child_command("idcfs")
    ours = {key for key in environment if key.startswith("IDCFS_")}
    environment = {key: text for key, text in environment.items() if key not in ours}
    text = _scratch_file()
    with tempfile.TemporaryFile() as manifest, tempfile.TemporaryFile() as told:
        manifest.writelines(write_manifest(tree))
        manifest.seek(0)
        done = subprocess.run(
            [*command, "cite", "--manifest", "-", "--index", str(index_path)],
            env={**environment, "IDCFS_CONFIG": "/dev/null"},
            stdin=manifest,
            stdout=told,
            stderr=subprocess.PIPE,
            check=False,
        )
        told.seek(0)
        text.writelines(told)
    if not text.tell():
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise IndexFileError(f"the citations could not be made: {''.join(reason)}")
    text.seek(0)
    return text


def as_file(content: bytes) -> BinaryIO:
    """Return a file with this content."""
    text = _scratch_file()
    text.write(content)
    return text


def _scratch_file() -> BinaryIO:
    spooled: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  # the reader closes it
    return cast("BinaryIO", spooled)


def _all_series(tree: DirectoryTree, directory: DirectoryId) -> Iterator[Series]:
    if tree.is_leaf(directory):
        yield from tree.series(directory)
    else:
        for _, child in tree.children(directory):
            yield from _all_series(tree, child)
