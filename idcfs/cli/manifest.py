"""`idcfs manifest`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from idcfs.cli.console import complain_of_each
from idcfs.cli.options import NonEmptyPath, index_option, log_option, selection_options
from idcfs.errors import UsageError
from idcfs.model import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from idcfs.cli.options import Selected


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
    dir_template: str,
) -> int:
    """Write a selection as s3:// lines, one a series, or as a script that fetches it.

    idc-index reads them too, and s5cmd with --s5cmd. IDENTIFIER is a collection, analysis result,
    patient, study or series, several separated by commas, or the path of a manifest.
    """
    from idcfs.catalog.catalog import Catalog
    from idcfs.catalog.manifest import write_manifest
    from idcfs.catalog.script import write_script
    from idcfs.cli.chosen import choose

    if script and (output or commands):
        raise UsageError("--script takes the place of --output and --s5cmd: say one of them")
    catalog = Catalog.open(index_path)
    chosen = choose(catalog, identifiers, selected)
    complain_of_each(chosen.problems)
    placed = catalog.series_paths(chosen.rows, dir_template if script else DEFAULT_TEMPLATE)
    if script:
        size, release = catalog.size(chosen.rows), catalog.index.release
        lines = write_script(
            placed, size=size, release=release, template=dir_template, source=source
        )
    else:
        lines = write_manifest((series for series, _ in placed), source, commands=commands)
    with _opened(script or output) as file:
        file.writelines(lines)
    if script and script.is_file():
        mode = script.stat().st_mode
        script.chmod(mode | (mode & 0o444) >> 2)  # whoever may read it may run it
    return int(bool(chosen.problems))


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """Open what is to be written; a regular file only appears when all of it is there."""
    from idcfs.api.writing import replacing

    if output is None or str(output) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        if output.exists() and not output.is_file():
            with output.open("w") as file:  # a device or a pipe
                yield file
            return
        with replacing(output.resolve()) as file:
            yield file
    except OSError as exc:
        raise UsageError(f"cannot write {output}: {exc.strerror}") from exc
