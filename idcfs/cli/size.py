"""`idcfs size`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from idcfs.cli.console import complain_of_each, human_bytes
from idcfs.cli.options import index_option, log_option, selection_options

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cli.options import Selected


@click.command()
@click.argument("identifiers", nargs=-1, metavar="[IDENTIFIER…]")
@selection_options
@index_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@log_option
def size(
    identifiers: tuple[str, ...], selected: Selected, index_path: Path | None, as_json: bool
) -> int:
    """Tell how many series, files and bytes a selection has, before anything moves.

    IDENTIFIER is a collection, analysis result, patient, study or series, several
    separated by commas, or the path of a manifest. Without any, and without
    options, it is the whole index. For series of earlier releases the index gives
    no number of files.
    """
    from idcfs.catalog.catalog import Catalog
    from idcfs.cli.chosen import choose

    with Catalog.open(index_path).kept_open() as catalog:
        chosen = choose(catalog, identifiers, selected)
        complain_of_each(chosen.problems)
        found = catalog.size(chosen.rows)
    if as_json:
        figures = {
            "series": found.series_count,
            "instances": found.instance_count,
            "bytes": found.size_bytes,
        }
        click.echo(json.dumps(figures))
    else:
        click.echo(f"series  {found.series_count:,}")
        click.echo(f"files   {found.instance_count:,}")
        click.echo(f"size    {human_bytes(found.size_bytes)}  ({found.size_bytes:,} bytes)")
    return int(bool(chosen.problems))
