"""`idcfs prefetch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import click

from idcfs.cli.console import complain, complain_of_each, human_bytes
from idcfs.cli.options import (
    Amount,
    NonEmptyPath,
    Rate,
    endpoint_options,
    index_option,
    is_flag_given,
    limit_options,
    log_option,
    selection_options,
)
from idcfs.cli.prefetch_figures import (
    drawn_progress,
    sum_up_examined,
    sum_up_fetched,
    tell_outcome,
    too_big,
)
from idcfs.cli.settings import name_option
from idcfs.config import cache_directory
from idcfs.errors import IdcfsError, UsageError
from idcfs.model import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.catalog.catalog import Catalog
    from idcfs.cli.options import Selected
    from idcfs.prefetch.batches import Streaming
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.prefetch.outcome import Outcome
    from idcfs.prefetch.selected import SelectedPrefetch
    from idcfs.prefetch.space import Space


@click.command()
@click.argument("identifiers", nargs=-1, metavar="[IDENTIFIER|MANIFEST…]")
@selection_options
@index_option
@endpoint_options
@click.option(
    "--download-dir",
    type=NonEmptyPath(file_okay=False),
    help="Put the files there, under the paths of --dir-template.  [default: into the cache]",
)
@click.option(
    "--from-dir",
    type=NonEmptyPath(file_okay=False),
    help="Take the files from this directory, where they were brought from another machine, and"
    " not from the store; without a selection, all that its lists name.",
)
@click.option(
    "--dir-template",
    default=DEFAULT_TEMPLATE,
    show_default=True,
    help='Where each series goes in --download-dir; "" puts all files into one directory.',
)
@click.option("--cache-dir", type=NonEmptyPath(), help="Where the cache is.")
@limit_options
@click.option("--dry-run", is_flag=True, help="Only tell what would be fetched, and if it fits.")
@click.option(
    "--recheck",
    is_flag=True,
    help="Read all that is there, hold it against the store's checksums as --verify full does, and"
    " fetch anew what differs; with --dry-run, only tell what differs or is missing.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    help="Files fetched at once; without it, as many as the link gains from (up to 128).",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Processes that share the work; without it, where there is much to fetch, one for two"
    " processors, or one for each where files of 128 KiB to 8 MiB, on average, are verified in"
    " full; 8 at most. --exec, --from-dir and --limit-rate take one.",
)
@click.option(
    "--verify",
    type=click.Choice(["full", "length"]),
    default="full",
    show_default=True,
    help="How to tell that a file is right, one that is there already and one that arrives: by"
    " a checksum too, where the store gives one, or by its length alone.",
)
@click.option(
    "--limit-rate",
    type=Rate(),
    metavar="RATE",
    help="Fetch no more than so many bytes a second, over all connections together: 10MB, 500k.",
)
@click.option(
    "--report",
    "report_path",
    type=NonEmptyPath(dir_okay=False),
    metavar="FILE",
    help="Write a line of JSON there for each file as it ends, and one that sums up.",
)
@click.option(
    "--exec",
    "command",
    metavar="COMMAND",
    help="Run COMMAND by the shell on each series once it is whole, in --download-dir:"
    ' "$SERIES_DIR" is its directory, "$SERIES_UUID" its UUID.',
)
@click.option(
    "--exec-remove",
    is_flag=True,
    help="Remove a series' files when COMMAND has ended well on it.",
)
@click.option(
    "--batch-size",
    type=Amount(),
    metavar="SIZE",
    help="Have so much there at once: the next series come when COMMAND has seen these.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Have the workers of this Dask cluster fetch, such as tcp://host:8786: into"
    " --download-dir, which they share, or each into its own cache. Takes idcfs[dask].",
)
@name_option
@log_option
def prefetch(
    identifiers: tuple[str, ...],
    selected: Selected,
    index_path: Path | None,
    endpoint_url: str | None,
    source: Literal["aws", "gcs"],
    download_dir: Path | None,
    from_dir: Path | None,
    dir_template: str,
    cache_dir: Path | None,
    cache_size: str | None,
    cache_shared: bool | None,
    min_free: str | None,
    dry_run: bool,
    recheck: bool,
    jobs: int | None,
    processes: int | None,
    verify: Literal["length", "full"],
    limit_rate: str | None,
    report_path: Path | None,
    command: str | None,
    exec_remove: bool,
    batch_size: str | None,
    scheduler: str | None,
) -> int:
    """Bring a selection to a directory, or into the cache.

    IDENTIFIER is a collection, analysis result, patient, study or series, several
    separated by commas; MANIFEST is a file of s3:// lines. Without --download-dir the
    files go into the cache, and a mount then shows them without a network. What is
    there already is not fetched again, so an interrupted prefetch goes on where it
    stopped. Exits with 1 if any file could not be had.
    """
    from idcfs.catalog.catalog import Catalog
    from idcfs.cli.chosen import choose
    from idcfs.mount.mountpoints import keep_off_mounts
    from idcfs.prefetch.job import PrefetchRequest
    from idcfs.prefetch.limit import parse_rate
    from idcfs.prefetch.selected import SelectedPrefetch
    from idcfs.prefetch.targets import Verify

    if not (identifiers or selected.manifest) and selected.selection.is_everything:
        if from_dir is None:
            raise UsageError("say what to fetch: a collection, a patient, … or --where")
        selected = _all_listed(from_dir)
    _refuse_what_says_nothing(download_dir or from_dir, report_path)
    request = PrefetchRequest(
        download_dir=download_dir.absolute() if download_dir else None,
        cache_dir=(cache_dir or cache_directory()).absolute(),
        endpoint_url=endpoint_url,
        source=source,
        jobs=jobs,
        processes=processes,
        verify=Verify.FULL if recheck else Verify(verify),
        cache_size=cache_size,
        cache_shared=cache_shared,
        min_free=min_free,
        bytes_per_s=parse_rate(limit_rate) if limit_rate else None,
        report_path=report_path.absolute() if report_path else None,
        from_dir=from_dir.absolute() if from_dir else None,
        only_examine=recheck and dry_run,
        streaming=_streaming(command, recheck, exec_remove, batch_size, download_dir, from_dir),
        ends_at_second_signal=True,
    )
    keep_off_mounts(request.download_dir, request.cache_dir)
    catalog = Catalog.open(index_path)
    with catalog.kept_open() as asked:  # not for as long as files come
        chosen = choose(asked, identifiers, selected)
        complain_of_each(chosen.problems)
        if scheduler is None or dry_run:
            job = SelectedPrefetch(asked, chosen.rows, dir_template, request)
            space = None if request.only_examine else job.measure()
    if scheduler is not None and not dry_run:
        status = _run_spread(catalog, chosen.rows, dir_template, request, scheduler)
    elif space is None:
        status = _bring(job, sum_up_examined)
    else:
        status = _tell(job, space) if dry_run else _run(job, space)
    return status or int(bool(chosen.problems))


def _refuse_what_says_nothing(directory: Path | None, report_path: Path | None) -> None:
    if directory is None and is_flag_given("dir_template"):
        raise UsageError(
            "--dir-template says where files go in --download-dir, and the cache knows no such"
            " places: name that too"
        )
    if report_path is not None and str(report_path) == "-":
        raise UsageError(
            "--report takes a file, as the summary goes to standard output: name one, or /dev/fd/3"
        )


def _streaming(
    command: str | None,
    recheck: bool,
    removes: bool,
    batch_size: str | None,
    download_dir: Path | None,
    from_dir: Path | None,
) -> Streaming | None:
    from idcfs.cache.limits import parse_amount
    from idcfs.prefetch.batches import Streaming

    if recheck and command:
        raise UsageError("--recheck checks what is there, and --exec what comes: name one of them")
    if command is None:
        if removes or batch_size:
            raise UsageError("--batch-size and --exec-remove say something of --exec: name that")
        return None
    if not command.strip():
        raise UsageError("--exec takes a command, and it is empty")
    if download_dir is None:
        raise UsageError("--exec runs on files in a directory: name it with --download-dir")
    if removes and from_dir and _overlap(from_dir.resolve(), download_dir.resolve()):
        raise UsageError("--exec-remove would remove the files of --from-dir themselves")
    batch_bytes = parse_amount(batch_size, 0) if batch_size else None
    if batch_size and not batch_bytes:
        raise UsageError(f"--batch-size takes a size such as 200G, not {batch_size}")
    return Streaming(command, removes, batch_bytes)


def _overlap(one: Path, other: Path) -> bool:
    """Tell whether one directory is the other, or within it."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def _all_listed(from_dir: Path) -> Selected:
    """Return the selection of all series that the lists in a directory name."""
    from idcfs.catalog.selection import Selection
    from idcfs.cli.options import Selected
    from idcfs.prefetch.carried import open_file_lists
    from idcfs.prefetch.file_list import FILE_LISTS

    uuids = open_file_lists(from_dir).series()
    if not uuids:
        raise UsageError(
            f"no {FILE_LISTS} in {from_dir} lists its files: say which series they are"
        )
    return Selected(Selection(crdc_series_uuid=tuple(uuids)), None)


def _tell(job: SelectedPrefetch, space: Space) -> int:
    """Print what would be fetched, and return 1 if the disk cannot hold it."""
    click.echo(f"series  {job.size.series_count:,}")
    click.echo(f"files   {job.size.instance_count:,}")
    click.echo(f"size    {human_bytes(job.size.size_bytes)}")
    click.echo(f"free    {human_bytes(space.free_bytes)} at {job.place}")
    if not space.suffices:
        complain(too_big(job.place, space))
    return int(not space.suffices)


def _run_spread(
    catalog: Catalog, rows: list[int], template: str, request: PrefetchRequest, scheduler: str
) -> int:
    """Have a cluster fetch. What room there is only its workers know."""
    from idcfs.cluster.job import ClusterPrefetch

    for option, said in (
        ("--from-dir", request.from_dir),
        ("--exec", request.streaming),
        ("--limit-rate", request.bytes_per_s),
    ):
        if said:
            raise UsageError(
                f"{option} says something of one machine: it does not go with --scheduler"
            )
    job = ClusterPrefetch(catalog, rows, template, request, scheduler=scheduler)
    return _bring(job, sum_up_fetched)


def _run(job: SelectedPrefetch, space: Space) -> int:
    """Fetch if there is room, print a summary, and return the exit status."""
    if not space.suffices:
        raise IdcfsError(too_big(job.place, space))
    return _bring(job, sum_up_fetched)


def _bring(job: SelectedPrefetch, summary: Callable[[Outcome], str]) -> int:
    from idcfs.fetch.collector import collect_rarely

    collect_rarely()
    started = time.monotonic()
    with drawn_progress() as observe:
        outcome = job.run(observe)
    return tell_outcome(outcome, f"{summary(outcome)}; {time.monotonic() - started:.1f} s")
