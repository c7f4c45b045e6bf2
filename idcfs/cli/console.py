"""What people see: messages on standard error, and figures they can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN_PROBLEMS = 20


def printable(text: str) -> str:
    """Return `text` in one line and without terminal escapes: it may come from anywhere."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def complain(message: str) -> None:
    """Print one line on standard error, marked as ours."""
    click.echo(f"idcfs: {printable(' '.join(message.split()))}", err=True)


def complain_of_each(problems: Sequence[str]) -> None:
    """Print a line for each problem, up to what fits a screen."""
    for problem in problems[:_SHOWN_PROBLEMS]:
        complain(problem)
    if len(problems) > _SHOWN_PROBLEMS:
        complain(f"and {len(problems) - _SHOWN_PROBLEMS:,} more like these")


def human_bytes(count: int) -> str:
    """Return a size in decimal units, as disks are sold: "12.3 GB"."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{count} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3f}".rstrip("0").rstrip(".") + " TB"
