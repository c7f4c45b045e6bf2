"""What a command was asked to work on: identifiers, manifests and selection options together."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from idcfs.cli.options import STANDARD_INPUT
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idcfs.catalog.catalog import Catalog
    from idcfs.cli.options import Selected


_DASH = "-"

NAMES = MappingProxyType({str(STANDARD_INPUT): "standard input"})
"""What messages call files that nobody has named by their path."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The series that were found, and what was not."""

    rows: list[int]
    """Index rows, ascending; never empty."""
    problems: list[str]
    """A line for each identifier, value or manifest line that names no series."""


def choose(
    catalog: Catalog,
    identifiers: Sequence[str],
    selected: Selected,
    names: Mapping[str, str] = NAMES,
) -> Chosen:
    """Find the series of identifiers and manifests, narrowed by the selection options.

    An identifier is a manifest's path or, separated by commas, what `idc download`
    takes: a collection, analysis result, patient, study or series; `-` are those on
    standard input, whose lines with `#` are passed over. Identifiers add up, and
    every option narrows, `--manifest` like the others. Nothing at all means the whole
    index. `names` are those of manifests in messages, by path. Raises UsageError if
    nothing is found, for identifiers and manifests that are empty, and for a `--where`
    that is no condition.
    """
    selection, problems = selected.selection, list[str]()
    rows: set[int] | None = None
    if identifiers:
        manifests = [Path(word) for word in identifiers if _is_file(word)]
        words = [word for word in identifiers if not _is_file(word)]
        rows = _identified(catalog, _with_standard_input(words), problems)
        if rows is None and not manifests:
            raise UsageError("no identifier given: it is empty")
        rows = (rows or set()).union(
            *(_listed(catalog, path, problems, names) for path in manifests)
        )
    if selected.manifest:
        listed = _listed(catalog, selected.manifest, problems, names)
        rows = listed if rows is None else rows & listed
    release = catalog.index.release
    if rows is not None and selection.is_everything:  # no option narrows them
        found = sorted(rows)
    else:
        if rows is not None:
            selection = replace(selection, rows=tuple(sorted(rows)))
        found, unmatched = catalog.match(selection)
        problems += [each.message(release) for each in unmatched]
    if not found:
        raise UsageError("; ".join(problems[:5]) or f"the selection picks no series of {release}")
    return Chosen(found, problems)


def _with_standard_input(words: list[str]) -> list[str]:
    """Return the words, with what standard input has in the place of `-`."""
    if _DASH not in words:
        return words
    said = [word for word in words if word != _DASH]
    try:
        read = sys.stdin.read().splitlines()
    except UnicodeDecodeError as exc:
        raise UsageError("standard input has no identifiers: it is not text") from exc
    if any("s3://" in line for line in read[:1]):
        raise UsageError("standard input has a manifest, not identifiers: --manifest - takes it")
    return said + [line for line in read if not line.lstrip().startswith("#")]


def _is_file(word: str) -> bool:
    """Tell whether a word is a file's path: any file's, for the shell's `<(…)` is a pipe."""
    try:
        return Path(word).exists() and not Path(word).is_dir()
    except (OSError, ValueError):
        return False  # a list of UIDs is soon longer than a name may be


def _identified(catalog: Catalog, words: list[str], problems: list[str]) -> set[int] | None:
    """Return the rows of identifiers, or None if there are none."""
    from idcfs.catalog.selection import split_values

    values = split_values(words)
    if not values:
        return None
    rows, unmatched = catalog.resolve_identifiers(values)
    for each in unmatched:
        release = catalog.index.release
        if os.path.isdir(each.value):  # noqa: PTH112  # no error, whatever the word
            release += ", and what is there by that name is a directory, not a manifest"
        elif "/" in each.value or "." in each.value:
            release += ", nor a file of that name"
        problems.append(each.message(release))
    return set(rows)


def _listed(
    catalog: Catalog, path: Path, problems: list[str], names: Mapping[str, str]
) -> set[int]:
    name = names.get(str(path), str(path))
    manifest = catalog.read_manifest(path, name)
    if not (manifest.rows or manifest.problems):
        what = name if name in NAMES.values() else f"the manifest {name}"
        raise UsageError(f"{what} has no entries")
    problems += [f"{name}, line {each.line}: {each.reason}" for each in manifest.problems]
    return set(manifest.rows)
