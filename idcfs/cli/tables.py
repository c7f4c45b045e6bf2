"""`idcfs tables`."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing
from typing import TYPE_CHECKING

import click

from idcfs.cli.console import printable
from idcfs.cli.options import index_option, log_option
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.catalog.extras import Table
    from idcfs.catalog.index import Index


@click.command()
@click.argument("names", nargs=-1, metavar="[TABLE…]")
@index_option
@click.option("--fetch", is_flag=True, help="Fetch these tables, so that `idcfs query` has them.")
@click.option(
    "--releases-url",
    metavar="URL",
    help="Where idc-index-data is released, if that is not GitHub: URL/VERSION/TABLE.parquet.",
)
@click.option("--endpoint-url", metavar="URL", help="Another S3 endpoint, for clinical tables.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with all columns.")
@log_option
def tables(
    names: tuple[str, ...],
    index_path: Path | None,
    fetch: bool,
    releases_url: str | None,
    endpoint_url: str | None,
    as_json: bool,
) -> None:
    """List the index tables, or the columns of some, or fetch those that are not here.

    clinical_index brings the clinical tables with it.
    """
    from idcfs.catalog.extras import list_tables
    from idcfs.catalog.index import Index

    index = Index.open(index_path)
    if fetch:
        _fetch(index, names, releases_url, endpoint_url)
        return
    known = list_tables(index)
    unknown = set(names) - {table.name for table in known}
    if unknown:
        raise UsageError(f"there is no table {', '.join(sorted(unknown))}")
    shown = [table for table in known if not names or table.name in names]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(table) for table in shown]))
    elif names:
        for table in shown:
            _show_columns(table)
    else:
        width = max(len(table.name) for table in shown)
        for table in shown:
            there = "here " if table.is_here else "fetch"
            click.echo(f"{table.name:<{width}}  {there}  {_first_sentence(table.description)}")


def _fetch(
    index: Index, names: tuple[str, ...], releases_url: str | None, endpoint_url: str | None
) -> None:
    from idcfs.store.s3 import S3Store
    from idcfs.tables.fetch import CLINICAL_INDEX, RELEASES, fetch_clinical, fetch_table

    if not names:
        raise UsageError("say which tables to fetch")
    for name in dict.fromkeys(names):
        if name == CLINICAL_INDEX:  # before it, so that it is not here until they are
            with closing(S3Store(endpoint_url=endpoint_url)) as store:
                click.echo(f"{len(fetch_clinical(index, store)):,} clinical tables are here")
        path = fetch_table(index, name, releases_url=releases_url or RELEASES)
        click.echo(f"{name} is here: {path}")


def _show_columns(table: Table) -> None:
    click.echo(f"{table.name}: {printable(table.description)}")
    for column in table.columns:
        click.echo(f"  {column.name} {column.kind}  {printable(column.description)}")


def _first_sentence(text: str) -> str:
    return printable(text.split(". ")[0].rstrip("."))
