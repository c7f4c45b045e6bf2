"""`idcfs diff`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from idcfs.cli.console import human_bytes, printable
from idcfs.cli.options import index_option, log_option

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.catalog.releases import Change


class _Release(click.types.IntParamType):
    """The number of an IDC release: 25 or v25."""

    name = "release"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number. Fails as a usage error if it is none."""
        digits = str(value).lower().removeprefix("v")
        if not (digits.isascii() and digits.isdecimal()):
            self.fail(f"{value!r} is no release of IDC; write it like 25 or v25", param, ctx)
        return int(digits)


@click.command()
@click.argument("old", type=_Release())
@click.argument("new", type=_Release())
@index_option
@click.option("--manifest", "as_manifest", is_flag=True, help="Print s3:// lines of what came.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@log_option
def diff(old: int, new: int, index_path: Path | None, as_manifest: bool, as_json: bool) -> None:
    """Tell what IDC added, revised and removed between the releases OLD and NEW.

    The installed index knows what every release up to its own held. --manifest prints
    what was added or revised, for `idcfs prefetch` or `idcfs mount --manifest`.
    """
    from idcfs.catalog.index import Index
    from idcfs.catalog.releases import compare_releases, list_changes

    if as_json and as_manifest:
        raise click.UsageError("--json and --manifest exclude each other.")
    index = Index.open(index_path)
    if as_manifest:
        for kind, line in list_changes(index, old, new):
            if kind != "removed":
                click.echo(line)
        return
    changes = compare_releases(index, old, new)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in changes]))
    else:
        _tell(changes)


def _tell(changes: list[Change]) -> None:
    for kind in ("added", "revised", "removed"):
        some = [each for each in changes if each.kind == kind]
        count = sum(each.series_count for each in some)
        size = sum(each.size_bytes for each in some)
        click.echo(f"{kind:8}  {count:>9,} series  {human_bytes(size):>10}")
        for each in some:
            click.echo(
                f"  {printable(each.collection_id):40}  {each.series_count:>9,} series  "
                f"{human_bytes(each.size_bytes):>10}"
            )
