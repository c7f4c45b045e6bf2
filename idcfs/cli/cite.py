"""`idcfs cite`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from idcfs.cli.console import complain, complain_of_each, human_bytes, printable
from idcfs.cli.options import index_option, log_option, selection_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from idcfs.catalog.citations import Source
    from idcfs.cli.options import Selected


@click.command()
@click.argument("identifiers", nargs=-1, metavar="[IDENTIFIER…]")
@selection_options
@index_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["apa", "bibtex", "json", "turtle"]),
    help="Print citations only: in APA style from the index, or otherwise as the DOI service "
    "gives them; json is CSL. Without a network, what the index knows stands in.",
)
@click.option("--doi-service", metavar="URL", help="Another DOI service than https://doi.org.")
@log_option
def cite(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    as_json: bool,
    style: str | None,
    doi_service: str | None,
) -> int:
    """Tell what to cite for a selection, and the licences it is under.

    IDENTIFIER is a collection, analysis result, patient, study or series, several
    separated by commas, or the path of a manifest. No network is needed, except for
    --format bibtex, json and turtle. Exits with 1 if the source of any series is
    not known.
    """
    from idcfs.catalog.catalog import Catalog
    from idcfs.catalog.citations import IDC_PUBLICATION
    from idcfs.cli.chosen import choose

    if as_json and style:
        raise click.UsageError("--json and --format exclude each other.")
    with Catalog.open(index_path).kept_open() as catalog:
        chosen = choose(catalog, identifiers, selected)
        found = catalog.attribute(chosen.rows)
    problems = [*chosen.problems, *(each.message() for each in found.unattributed)]
    complain_of_each(problems)
    if as_json:
        figures = {
            "sources": [_as_json(each) for each in found.sources],
            "idc": _as_json(IDC_PUBLICATION),
            "unattributed_series": sum(each.series_count for each in found.unattributed),
        }
        click.echo(json.dumps(figures))
    elif style:
        _print_formatted([*found.sources, IDC_PUBLICATION], style, doi_service)
    else:
        for each in found.sources:
            _print_source(each)
        click.echo(f"{printable(IDC_PUBLICATION.citation or '')}\n  IDC itself")
    return int(bool(problems))


def _print_source(source: Source) -> None:
    from idcfs.cite.formats import format_source

    kinds = {"original_data": "original data", "analysis_result": "analysis result"}
    kind = kinds.get(source.kind or "", "source")
    click.echo(printable(format_source(source, "apa")))
    click.echo(
        f"  {kind} of {printable(', '.join(source.collections))}: "
        f"{source.series_count:,} series, {human_bytes(source.size_bytes)}"
    )
    for each in source.licenses:
        click.echo("  " + printable(f"licence: {each.name}  {each.url or ''}").rstrip())
    click.echo()


def _as_json(source: Source) -> dict[str, Any]:
    return {
        "doi": source.doi,
        "url": source.url,
        "kind": source.kind,
        "title": source.title,
        "citation": source.citation,
        "licenses": [
            {"name": each.name, "long_name": each.long_name, "url": each.url}
            for each in source.licenses
        ],
        "collections": source.collections,
        "series": source.series_count,
        "bytes": source.size_bytes,
    }


def _print_formatted(sources: Sequence[Source], style: str, doi_service: str | None) -> None:
    from idcfs.cite.formatted import format_citations

    formatted = format_citations(sources, style, service_url=doi_service)
    for each in formatted.problems:
        complain(each)
    if style == "json":
        click.echo(json.dumps([json.loads(text) for text in formatted.texts]))
    else:
        for text in formatted.texts:
            click.echo("\n".join(map(printable, text.splitlines())))
