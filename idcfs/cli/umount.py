"""`idcfs umount`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from idcfs.cli.console import complain
from idcfs.cli.options import log_option, mountpoint_argument
from idcfs.cli.settings import name_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@mountpoint_argument
@click.option("--lazy", is_flag=True, help="Detach now, and unmount when nobody uses it any more.")
@click.option(
    "--wait",
    "patience_s",
    type=click.FloatRange(min=0),
    default=0,
    metavar="SECONDS",
    help="Wait so long for whoever is busy there, before it is given up.",
)
@click.option(
    "--stale",
    is_flag=True,
    help="Only clear away a mount whose daemon is gone; otherwise do nothing.",
)
@name_option
@log_option
def umount(mountpoint: Path, lazy: bool, patience_s: float, stale: bool) -> None:
    """Unmount what `idcfs mount` has mounted at MOUNTPOINT.

    Says who is busy there, if that is why it cannot be unmounted.
    """
    from idcfs.mount.mountpoints import find_own, hangs, is_stale, resolve, unmount

    if stale:
        place = resolve(mountpoint)
        if hangs(place) or not is_stale(place):
            return
    place = find_own(mountpoint)
    os.chdir("/")  # from a shell inside, this process too would be among those that use it
    unmount(
        place,
        lazy=lazy or stale,
        patience_s=patience_s,
        waiting=_tell_who_is_waited_for,
    )


def _tell_who_is_waited_for(users: str) -> None:
    if sys.stderr.isatty():
        complain(f"waiting for {users}")
