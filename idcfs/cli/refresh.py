"""`idcfs refresh`."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import click

from idcfs.cli.console import printable
from idcfs.cli.options import log_option, mountpoint_argument
from idcfs.cli.settings import name_option
from idcfs.errors import MountError

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@mountpoint_argument
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@name_option
@log_option
def refresh(mountpoint: Path, as_json: bool) -> int:
    """Move the mount at MOUNTPOINT on to the index that is installed by now.

    For when idc-index-data was upgraded, or the file of --index or --manifest replaced. Open
    files stay open. If the new index cannot be shown, the old one stays, and this exits with 1.
    """
    from idcfs.mount.mountpoints import find_own, refuse_to_hang

    path = find_own(mountpoint)
    refuse_to_hang(path)
    # The answer takes seconds, and Python would see Ctrl-C only when it is there.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        told = json.loads((path / ".idcfs" / "refresh").read_text())
    except PermissionError as exc:
        raise MountError(f"{mountpoint} is another user's, who alone may refresh it") from exc
    except OSError as exc:
        raise MountError(f"{mountpoint} cannot be asked: {exc.strerror}") from exc
    if as_json:
        click.echo(json.dumps(told))
        return int("error" in told)
    if "error" in told:
        raise MountError(f"{told['release']} stays at {mountpoint}: {told['error']}")
    shown = f"{told['release']} ({told['index_version']}) at {mountpoint}"
    if told["refreshed"]:
        click.echo(
            printable(
                f"now {shown}: {told['series']:,} series, {told['series_added']:,} came and "
                f"{told['series_removed']:,} went"
            )
        )
    else:
        click.echo(printable(f"still {shown}: the index has not changed"))
    return 0
