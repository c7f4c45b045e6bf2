"""`idcfs cache`: info, verify, evict, clear, pin and unpin."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from idcfs.cli.bars import drawn_bytes, drawn_series
from idcfs.cli.console import complain, complain_of_each, human_bytes
from idcfs.cli.options import Command, NonEmptyPath, index_option, log_option, selection_options
from idcfs.config import cache_directory
from idcfs.errors import CacheError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from idcfs.cache.audit import Damage
    from idcfs.cache.eviction import Evicted
    from idcfs.cache.ledger import Books
    from idcfs.cache.opening import OpenCache
    from idcfs.cli.options import Selected
    from idcfs.model import SeriesUUID


@click.group()
def cache() -> None:
    """Look after the cache: what it holds, what stays, what goes.

    Everything here is safe while file systems are mounted and prefetches run.
    """


def _cache_options(command: Command) -> Command:
    command = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")(command)
    return click.option("--cache-dir", type=NonEmptyPath(), help="Where the cache is.")(command)


def _chosen_options(command: Command) -> Command:
    command = index_option(selection_options(_cache_options(command)))
    return click.argument("identifiers", nargs=-1, metavar="[IDENTIFIER|MANIFEST…]")(command)


@cache.command()
@_cache_options
@index_option
@click.option(
    "--by",
    type=click.Choice(["collection"]),
    help="Also tell what it holds of each collection.",
)
@log_option
def info(
    cache_dir: Path | None,
    as_json: bool,
    index_path: Path | None,
    by: str | None,
) -> None:
    """Tell what the cache holds, what it may take, and what is pinned.

    The limits are those that were last said to a mount or prefetch.
    """
    from idcfs.cli.cache_figures import examine, tell

    with _open(cache_dir) as (cache, ledger):
        figures = examine(cache, ledger, index_path, by_collection=by is not None)
    click.echo(json.dumps(figures)) if as_json else tell(figures)


@cache.command()
@_chosen_options
@click.option("--keep-damaged", is_flag=True, help="Only report; do not drop what is damaged.")
@log_option
def verify(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    cache_dir: Path | None,
    as_json: bool,
    keep_damaged: bool,
) -> int:
    """Compare every byte in the cache, or of a selection, with its checksum; count all files.

    What is damaged is dropped, and fetched anew when it is wanted. Exits with 1 if
    anything was damaged.
    """
    from idcfs.cache.audit import Checked, verify_cache

    chosen, problems = None, list[str]()
    if _is_anything_chosen(identifiers, selected):
        chosen, problems = _choose(identifiers, selected, index_path, "verify")
    checked = Checked()
    damaged: list[Damage] = []
    with _open(cache_dir) as opened:
        cache, ledger = opened
        if chosen is not None:
            chosen = _of_interest(opened, chosen)
        with drawn_bytes(_stored_bytes(ledger, chosen)) as observe:

            def see(so_far: Checked) -> None:
                nonlocal checked
                checked = so_far
                observe(so_far.size_bytes)

            for each in verify_cache(
                cache.root,
                drop=not keep_damaged,
                series=chosen,
                shared=cache.shared,
                observe=see,
            ):
                fate = "dropped" if each.dropped else "kept"
                complain(f"series {each.series}, {each.name}: {each.reason} ({fate})")
                damaged.append(each)
        drift = ledger.recount()
    figures = {
        "objects": checked.objects,
        "bytes": checked.size_bytes,
        "damaged": len(damaged),
        "dropped": sum(each.dropped for each in damaged),
        "recounted_series": drift.series,
    }
    if as_json:
        click.echo(json.dumps(figures))
    else:
        click.echo(
            f"{checked.objects:,} files checked ({human_bytes(checked.size_bytes)}), "
            f"{len(damaged):,} damaged; {drift.series:,} series counted anew"
        )
    return int(bool(damaged or problems))


def _stored_bytes(ledger: Books, chosen: list[SeriesUUID] | None) -> int:
    if chosen is None:
        return ledger.totals().bytes
    wanted = set(chosen)
    return sum(account.bytes for account in ledger.accounts() if account.series in wanted)


@cache.command()
@_chosen_options
@click.option("--pinned", is_flag=True, help="Also what is pinned; it is then pinned no more.")
@log_option
def evict(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    cache_dir: Path | None,
    as_json: bool,
    pinned: bool,
) -> int:
    """Remove what the cache holds of a selection, except what is pinned or in use."""
    series, problems = _choose(identifiers, selected, index_path, "evict")
    with _open(cache_dir) as opened:
        if pinned:
            _unpin(opened.books, series)
        evicted = _remove(opened.books, _of_interest(opened, series))
    return _report(evicted, as_json) or int(bool(problems))


@cache.command()
@_cache_options
@click.option("--pinned", is_flag=True, help="Also what is pinned; it is then pinned no more.")
@click.option("--listings", is_flag=True, help="Also the listings, of pinned series too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@log_option
def clear(cache_dir: Path | None, as_json: bool, pinned: bool, listings: bool, yes: bool) -> int:
    """Remove all files from the cache, except what is pinned or in use.

    Listings of what the store holds stay: they are small, and right for ever at Amazon and
    Google. After a mirror was filled anew, take --listings, and --pinned if its content is
    another. Without listings nothing can be read offline. Nothing is touched that idcfs has not
    put there.
    """
    from idcfs.cache.inventory import remove_listings, series_on_disk

    with _open(cache_dir) as (cache, ledger):
        totals = ledger.totals()
        question = (
            f"Remove {totals.series:,} series ({human_bytes(totals.bytes)})"
            f"{' and all listings' if listings else ''} from {cache.root}?"
        )
        if not yes and (totals.series or listings) and not _confirms(question):
            complain("nothing was removed")
            return 1
        series = {account.series for account in ledger.accounts()}
        series |= {
            each for each, _, _ in series_on_disk(cache.root)
        }  # the latest are not in the books
        if pinned:
            _unpin(ledger, ledger.pins.all())
        evicted = _remove(ledger, sorted(series))
        removed = remove_listings(cache.root) if listings else None
    return _report(evicted, as_json, removed)


@cache.command()
@_chosen_options
@log_option
def pin(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    cache_dir: Path | None,
    as_json: bool,
) -> int:
    """Keep a selection in the cache, now and whatever else comes.

    Pinning fetches nothing: idcfs prefetch does.
    """
    series, problems = _choose(identifiers, selected, index_path, "pin")
    with _open(cache_dir) as (_, ledger):
        pinned = ledger.pins.all()
        with drawn_series([each for each in series if each not in pinned]) as drawn:
            changed = sum(ledger.pin(each) for each in drawn)
        held = {account.series: account.bytes for account in ledger.accounts()}
    here = [held[each] for each in series if each in held]
    if as_json:
        figures = {"series": len(series), "pinned": changed, "cached": len(here)}
        click.echo(json.dumps({**figures, "bytes": sum(here)}))
    else:
        click.echo(
            f"{len(series):,} series pinned ({changed:,} were not before); the cache has "
            f"{len(here):,} of them ({human_bytes(sum(here))})"
        )
    return int(bool(problems))


@cache.command()
@_chosen_options
@log_option
def unpin(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    cache_dir: Path | None,
    as_json: bool,
) -> int:
    """Let a selection go like everything else when the cache needs room."""
    series, problems = _choose(identifiers, selected, index_path, "unpin")
    with _open(cache_dir) as (_, ledger):
        changed = _unpin(ledger, series)
    if as_json:
        click.echo(json.dumps({"series": len(series), "unpinned": changed}))
    else:
        click.echo(f"{changed:,} series unpinned")
    return int(bool(problems))


@contextmanager
def _open(cache_dir: Path | None) -> Iterator[OpenCache]:
    """Open a cache that is there already, and is ours, with books that can be used."""
    from idcfs.cache.counted import usable_books
    from idcfs.cache.opening import open_cache

    root = (cache_dir or cache_directory()).absolute()
    try:
        is_there = root.is_dir()
    except OSError as exc:
        raise CacheError(
            f"cannot use the cache directory {root}: {exc.strerror}; "
            "choose another with --cache-dir"
        ) from exc
    if not is_there:
        raise UsageError(f"there is no cache at {root}; --cache-dir names another place")
    opened = open_cache(root, background=False)
    try:
        yield opened._replace(books=usable_books(opened))
    finally:
        opened.cache.close()


def _is_anything_chosen(identifiers: tuple[str, ...], selected: Selected) -> bool:
    return bool(identifiers or selected.manifest) or not selected.selection.is_everything


def _choose(
    identifiers: tuple[str, ...], selected: Selected, index_path: Path | None, verb: str
) -> tuple[list[SeriesUUID], list[str]]:
    from idcfs.catalog.catalog import Catalog
    from idcfs.cli.chosen import choose

    if not _is_anything_chosen(identifiers, selected):
        raise UsageError(f"say what to {verb}: a collection, a patient, … or --where")
    with Catalog.open(index_path).kept_open() as catalog:
        chosen = choose(catalog, identifiers, selected)
        complain_of_each(chosen.problems)
        return catalog.uuids(chosen.rows), chosen.problems


def _of_interest(opened: OpenCache, series: list[SeriesUUID]) -> list[SeriesUUID]:
    """Return those of these series of which the cache, or its books, may have something.

    To look for the files of a million series, one by one, takes a minute.
    """
    from idcfs.cache.inventory import series_with_directories

    here = series_with_directories(opened.cache.root)
    if opened.cache.shared is None:
        here |= {account.series for account in opened.books.accounts()}
    return [each for each in series if each in here]


def _remove(ledger: Books, series: list[SeriesUUID]) -> Evicted:
    with drawn_series(series) as drawn:
        return ledger.evict(drawn)


def _unpin(ledger: Books, series: Collection[SeriesUUID]) -> int:
    """Let series go, and return how many were pinned."""
    with drawn_series(ledger.pins.all().intersection(series)) as drawn:
        return sum(ledger.pins.remove(each) for each in drawn)


def _confirms(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is nobody to ask: --yes says so")
    return click.confirm(question, err=True)


def _report(evicted: Evicted, as_json: bool, listings: int | None = None) -> int:
    """Tell what was removed, with listings if these were to be."""
    complain_of_each(evicted.failures)
    if as_json:
        figures: dict[str, Any] = {
            "series": evicted.series,
            "bytes": evicted.bytes,
            "pinned": evicted.pinned,
            "in_use": evicted.in_use,
            "failed": len(evicted.failures),
        }
        if listings is not None:
            figures["listings"] = listings
        click.echo(json.dumps(figures))
    else:
        click.echo(
            f"{evicted.series:,} series removed ({human_bytes(evicted.bytes)})"
            + ("" if listings is None else f", and {listings:,} listings")
        )
        if evicted.pinned:
            complain(f"{evicted.pinned:,} series stay because they are pinned (--pinned)")
        if evicted.in_use:
            complain(f"{evicted.in_use:,} series stay because they are in use")
    return int(bool(evicted.failures or evicted.in_use))
