"""What `idcfs prefetch` shows: a bar, a summary, and what went wrong."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NoReturn

import click

from idcfs.cli.bars import bar_form
from idcfs.cli.console import complain, human_bytes
from idcfs.errors import WAY_ROUND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.prefetch.job import Observer
    from idcfs.prefetch.outcome import Outcome
    from idcfs.prefetch.space import Space

_INTERRUPTED = 130


def too_big(place: Path, space: Space) -> str:
    """Return the message for what does not fit."""
    from idcfs.prefetch.space import CacheSpace

    needed, free = human_bytes(space.needed_bytes), human_bytes(space.free_bytes)
    if not isinstance(space, CacheSpace):
        return (
            f"{needed} are still to be fetched and {place} has {free} free: "
            "select less, or name another disk with --download-dir"
        )
    limit = "none" if space.limit_bytes is None else human_bytes(space.limit_bytes)
    pinned = f", {human_bytes(space.pinned_bytes)} pinned" if space.pinned_bytes else ""
    return (
        f"{needed} do not fit into the cache {place}, which can hold {free} of them "
        f"(limit {limit}, {human_bytes(space.min_free_bytes)} of the disk stay free{pinned}): "
        "select less, raise --cache-size, or name another disk with --cache-dir"
    )


@contextmanager
def drawn_progress() -> Iterator[Observer]:
    """Draw a progress bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda outcome, bytes_under_way: None
        return
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with logging_redirect_tqdm(), ExitStack() as stack:
        bar: tqdm[NoReturn] | None = None

        def draw(outcome: Outcome, bytes_under_way: int) -> None:
            nonlocal bar
            if bar is None:  # which is drawn at once, and without a total is none
                bar = tqdm(total=outcome.total_bytes, unit="B", unit_scale=True, **bar_form())
                stack.enter_context(bar)
            bar.total = outcome.total_bytes
            bar.n = min(outcome.done_bytes + bytes_under_way, outcome.total_bytes)
            bar.set_postfix_str(
                f"{outcome.done_files:,}/{outcome.total_files:,} files", refresh=True
            )

        yield draw


def sum_up_fetched(outcome: Outcome) -> str:
    """Return the summary of a prefetch."""
    replaced, copied = outcome.replaced_files, outcome.copied_files
    return (
        f"{outcome.fetched_files:,} files fetched ({human_bytes(outcome.fetched_bytes)}), "
        + (f"{replaced:,} of them in place of wrong ones, " if replaced else "")
        + (
            f"{copied:,} copied from the cache ({human_bytes(outcome.copied_bytes)}), "
            * bool(copied)
        )
        + f"{outcome.present_files:,} were there already ({human_bytes(outcome.present_bytes)}), "
        f"{outcome.failed_files:,} failed"
    )


def sum_up_examined(outcome: Outcome) -> str:
    """Return the summary of a prefetch that only looked."""
    return (
        f"{outcome.present_files:,} files are right ({human_bytes(outcome.present_bytes)}), "
        f"{outcome.failed_files:,} are not"
    )


def tell_outcome(outcome: Outcome, summary: str) -> int:
    """Print what failed, the summary and what to do next; return the exit status."""
    for failure in outcome.failures:
        complain(failure.line)
    click.echo(summary)
    if outcome.commands_done or outcome.commands_failed or outcome.skipped_series:
        failed = f"; it failed on {outcome.commands_failed:,}" if outcome.commands_failed else ""
        click.echo(
            f"the command ended well on {outcome.commands_done:,} series, "
            f"and had on {outcome.skipped_series:,} before{failed}"
        )
    left = outcome.total_files - outcome.done_files
    if outcome.gave_up is not None:
        complain(f"gave up with {left:,} files to go: {outcome.gave_up}")
    if outcome.out_of_reach:
        complain(WAY_ROUND)
    if outcome.interrupted:
        left_series = outcome.commands_left
        unseen = f" and {left_series:,} series left to the command" if left_series else ""
        complain(
            f"interrupted with {left:,} files to go{unseen}; the same command goes on from here"
        )
        return _INTERRUPTED
    return int(not outcome.is_complete)
