"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.descriptors import names_descriptor, open_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """Open a file, a device or a pipe to be written; see `replacing` for files.

    What a path such as /dev/stdout stands for is written to as it is open. Raises OSError.
    """
    if names_descriptor(path):
        with os.fdopen(open_descriptor(path), "w", encoding="utf-8") as file:
            yield file
    elif path.exists() and not path.is_file():
        with path.open("w") as file:
            yield file
    else:
        with replacing(path.resolve()) as file:
            yield file


@contextmanager
def replacing(target: Path) -> Iterator[TextIO]:
    """Open a file to be written, which appears under its name when all of it is there."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            # mkstemp's 0600 would keep colleagues from reading it.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(descriptor, 0o666 & ~umask)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
