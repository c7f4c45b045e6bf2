"""What people see: messages on standard error, and figures they can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from idcfs.api.figures import human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["complain", "complain_of_each", "human_bytes", "printable"]

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
