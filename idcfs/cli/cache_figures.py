"""What `idcfs cache info` tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from idcfs.cli.console import human_bytes, printable

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache import DiskCache
    from idcfs.cache.book import Account
    from idcfs.cache.ledger import Books

_UNKNOWN = "(not in this index)"


def examine(
    cache: DiskCache, ledger: Books, index_path: Path | None, *, by_collection: bool
) -> dict[str, Any]:
    """Return the figures, as `--json` prints them. Sizes are in bytes."""
    from idcfs.cache.limits import measure_disk

    limits, totals, accounts = ledger.limits(), ledger.totals(), ledger.accounts()
    hits, pinned = ledger.hits(), ledger.pins.all()
    here = [account for account in accounts if account.series in pinned]
    figures: dict[str, Any] = {
        "directory": str(cache.root),
        "shared": cache.shared is not None,
        "bytes": totals.bytes,
        "limit_bytes": limits.size_bytes,
        "free_bytes": measure_disk(cache.root).free_bytes,
        "min_free_bytes": limits.min_free_bytes,
        "series": totals.series,
        "files": totals.files,
        "opened": hits.opened,
        "hit_ratio": hits.ratio,
        "protected_bytes": totals.protected_bytes,
        "pinned_series": len(pinned),
        "pinned_cached_series": len(here),
        "pinned_bytes": sum(account.bytes for account in here),
    }
    if by_collection:
        figures["collections"] = _by_collection(accounts, index_path)
    return figures


def _by_collection(accounts: list[Account], index_path: Path | None) -> list[dict[str, Any]]:
    from idcfs.catalog.catalog import Catalog

    of = Catalog.open(index_path).collections_of(account.series for account in accounts)
    sums: dict[str, list[int]] = {}
    for account in accounts:
        figures = sums.setdefault(of.get(account.series, _UNKNOWN), [0, 0, 0])
        for place, figure in enumerate((1, account.files, account.bytes)):
            figures[place] += figure
    largest_first = sorted(sums.items(), key=lambda each: (-each[1][2], each[0]))
    return [
        {"collection_id": name, "series": series, "files": files, "bytes": size_bytes}
        for name, (series, files, size_bytes) in largest_first
    ]


def tell(figures: dict[str, Any]) -> None:
    """Print the figures for people."""
    if figures["shared"]:
        click.echo(
            "shared  by several hosts, without locks: a file may be fetched by each process, the\n"
            "        limit may be passed for a while, use is known by the directories' times"
        )
    limit = figures["limit_bytes"]
    of_limit = "no limit" if limit is None else f"limit {human_bytes(limit)}"
    click.echo(f"cache   {printable(figures['directory'])}")
    click.echo(f"size    {human_bytes(figures['bytes'])}  ({of_limit})")
    least = human_bytes(figures["min_free_bytes"])
    click.echo(f"free    {human_bytes(figures['free_bytes'])}  (at least {least} stay free)")
    click.echo(f"series  {figures['series']:,}")
    click.echo(f"files   {figures['files']:,}")
    ratio = figures["hit_ratio"]
    if ratio is not None:
        click.echo(f"hits    {ratio:.1%} of {figures['opened']:,} objects opened were here")
    click.echo(
        f"pinned  {figures['pinned_series']:,} series, of which "
        f"{figures['pinned_cached_series']:,} are here ({human_bytes(figures['pinned_bytes'])})"
    )
    for each in figures.get("collections", []):
        click.echo(
            f"  {printable(each['collection_id']):30}  {each['series']:>8,} series  "
            f"{each['files']:>10,} files  {human_bytes(each['bytes']):>10}"
        )
