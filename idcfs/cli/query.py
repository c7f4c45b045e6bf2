"""`idcfs query`."""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from idcfs.cli.console import printable
from idcfs.cli.options import index_option, log_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    Row = tuple[Any, ...]
    Form = Literal["table", "csv", "json"]

_MEASURED_ROWS = 1000
"""A table's columns are as wide as its first rows need, so that the rest can stream."""


@click.command()
@click.argument("sql")
@index_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="csv has a header; json is an array of objects. Binary values are in hexadecimal.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@log_option
@click.pass_context
def query(ctx: click.Context, sql: str, index_path: Path | None, form: Form, as_json: bool) -> None:
    """Answer SQL over the index tables, named as idc-index names them.

    The tables are index, prior_versions_index, collections_index,
    analysis_results_index and version_metadata_index, and those that `idcfs tables`
    has fetched. SQL is DuckDB's, one SELECT,
    and reaches nothing else: no files, no network. Of columns of one name, the later
    ones get a number (x, x_2); times with a zone are in UTC.
    """
    from idcfs.catalog.catalog import Catalog

    if as_json and form != "json":
        form = _decide(ctx, form)
    answer = Catalog.open(index_path).query(sql)
    write = {"table": _write_table, "csv": _write_csv, "json": _write_json}[form]
    write(answer.columns, answer.rows, sys.stdout)
    sys.stdout.flush()


def _decide(ctx: click.Context, form: Form) -> Form:
    """Return the form where --json and another --format are both said: flags win."""
    flags = [
        name
        for name in ("form", "as_json")
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if len(flags) == 2:
        raise click.UsageError(f"--json and --format {form} exclude each other.")
    return form if flags == ["form"] else "json"


def _write_table(columns: Sequence[str], rows: Iterator[Row], out: TextIO) -> None:
    first = list(itertools.islice(rows, _MEASURED_ROWS))
    shown = [[_shown(value) for value in row] for row in (columns, *first)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    numeric = [
        bool(first) and all(_is_number(row[i]) or row[i] is None for row in first)
        for i in range(len(columns))
    ]

    def line(cells: Iterable[str]) -> str:
        justified = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(justified).rstrip() + "\n"

    out.write(line(shown[0]))
    out.write(line("-" * width for width in widths))
    for cells in itertools.chain(shown[1:], ([_shown(value) for value in row] for row in rows)):
        out.write(line(cells))


def _write_csv(columns: Sequence[str], rows: Iterator[Row], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [each.hex() if isinstance(each, bytes) else each for each in row] for row in rows
    )


def _write_json(columns: Sequence[str], rows: Iterator[Row], out: TextIO) -> None:
    separator = "[\n"
    for row in rows:
        out.write(separator + json.dumps(dict(zip(columns, map(_plain, row), strict=True))))
        separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def _shown(value: object) -> str:
    # A value of the index can hold anything, and a terminal obeys some of it.
    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else printable(str(value))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _plain(value: object) -> object:
    """Return what JSON has for a value of DuckDB's."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)  # dates, UUIDs
