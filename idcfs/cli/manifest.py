"""`idcfs manifest`."""

from __future__ import annotations

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Literal

import click

from idcfs.cli.console import complain, complain_of_each
from idcfs.cli.options import (
    NonEmptyPath,
    index_option,
    is_flag_given,
    log_option,
    selection_options,
)
from idcfs.config import cache_directory
from idcfs.descriptors import names_descriptor
from idcfs.errors import StoreError, UsageError
from idcfs.model import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from idcfs.api.files import Remote
    from idcfs.cli.options import Selected
    from idcfs.model import Series

_LISTERS = 8
"""Series listed at once."""


@click.command()
@click.argument("identifiers", nargs=-1, metavar="[IDENTIFIER…]")
@selection_options
@index_option
@click.option(
    "--output",
    type=NonEmptyPath(dir_okay=False, allow_dash=True),
    help="The file to write, whole or not at all.  [default: standard output]",
)
@click.option(
    "--source",
    type=click.Choice(["aws", "gcs"]),
    default="aws",
    show_default=True,
    help="Whose buckets to name.",
)
@click.option(
    "--s5cmd",
    "commands",
    is_flag=True,
    help="Write commands for `s5cmd run`, which bring all files to the directory it is run in.",
)
@click.option(
    "--script",
    type=NonEmptyPath(dir_okay=False, allow_dash=True),
    help="Write a shell script instead, with the manifest in it, that fetches everything on a"
    " machine that reaches the store: with idcfs, or with s5cmd alone.",
)
@click.option(
    "--files",
    "lists_files",
    is_flag=True,
    help="Ask the store, and write a line of JSON for each file instead, with its URL, bytes and"
    " checksum, as `s5cmd --json ls` does.",
)
@click.option(
    "--endpoint-url", metavar="URL", help="Another S3 endpoint than that of --source, for --files."
)
@click.option("--cache-dir", type=NonEmptyPath(), help="Where the cache is, for --files.")
@click.option(
    "--dir-template",
    default=DEFAULT_TEMPLATE,
    show_default=True,
    help="Where the script puts each series.",
)
@log_option
def manifest(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    output: Path | None,
    source: Literal["aws", "gcs"],
    commands: bool,
    script: Path | None,
    lists_files: bool,
    endpoint_url: str | None,
    cache_dir: Path | None,
    dir_template: str,
) -> int:
    """Write a selection as s3:// lines, one a series, or as a script that fetches it.

    idc-index reads them too, and s5cmd with --s5cmd. IDENTIFIER is a collection, analysis result,
    patient, study or series, several separated by commas, or the path of a manifest.
    """
    from idcfs.api.files import Remote
    from idcfs.catalog.catalog import Catalog
    from idcfs.catalog.manifest import write_manifest
    from idcfs.catalog.script import write_script
    from idcfs.cli.chosen import choose

    if script and (output or commands):
        raise UsageError("--script takes the place of --output and --s5cmd: say one of them")
    if lists_files and (script or commands):
        raise UsageError("--files takes the place of --script and --s5cmd: say one of them")
    if not script and is_flag_given("dir_template"):
        raise UsageError("--dir-template says where a script puts files: name it with --script")
    catalog = Catalog.open(index_path)
    chosen = choose(catalog, identifiers, selected)
    complain_of_each(chosen.problems)
    placed = catalog.series_paths(chosen.rows, dir_template if script else DEFAULT_TEMPLATE)
    if script:
        size, release = catalog.size(chosen.rows), catalog.index.release
        lines = write_script(
            placed, size=size, release=release, template=dir_template, source=source
        )
    elif lists_files:
        remote = Remote((cache_dir or cache_directory()).absolute(), endpoint_url, source)
        lines = _file_lines(remote, (series for series, _ in placed), chosen.problems)
    else:
        lines = write_manifest((series for series, _ in placed), source, commands=commands)
    with _opened(script or output) as file:
        file.writelines(lines)
    if script and script.is_file() and not names_descriptor(script):
        mode = script.stat().st_mode
        script.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it may run it
    return int(bool(chosen.problems))


def _file_lines(remote: Remote, placed: Iterator[Series], problems: list[str]) -> Iterator[str]:
    """Yield a line for each file; series that cannot be listed are told, and become problems."""
    from idcfs.prefetch.outcome import Failure

    with closing(remote), ThreadPoolExecutor(_LISTERS) as lister:

        def lines_of(series: Series) -> list[str] | StoreError:
            try:
                return [file.json_line() for file in remote.files(series)]
            except StoreError as exc:
                return exc

        while some := list(itertools.islice(placed, 8 * _LISTERS)):
            for series, lines in zip(some, lister.map(lines_of, some), strict=True):
                if isinstance(lines, StoreError):
                    problems.append(Failure(f"series {series.uuid}", str(lines)).line)
                    complain(problems[-1])
                else:
                    yield from lines


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Open what is to be written; a regular file only appears when all of it is there."""
    from idcfs.api.writing import written

    if output is None or str(output) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        with written(output) as file:
            yield file
    except OSError as exc:
        raise UsageError(f"cannot write {output}: {exc.strerror}") from exc
