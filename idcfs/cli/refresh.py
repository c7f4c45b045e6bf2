"""`idcfs refresh`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click

from idcfs.cli.console import printable
from idcfs.cli.options import log_option, mountpoint_argument
from idcfs.cli.settings import name_option
from idcfs.errors import MountError

if TYPE_CHECKING:
    from pathlib import Path


_READ = """
import sys
try:
    with open(sys.argv[1], "rb") as file:
        sys.stdout.buffer.write(file.read())
except OSError as exc:
    sys.exit(str(exc.errno))
"""


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
    try:
        told = json.loads(_read(path / ".idcfs" / "refresh"))
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


def _read(path: Path) -> bytes:
    """Return what a file has. Raises OSError.

    The answer takes seconds, in which nothing ends who waits for it, Ctrl-C least of all: so
    that is a process made for it.
    """
    command = [sys.executable, "-I", "-S", "-c", _READ, os.fspath(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode == 0:
        return done.stdout
    try:
        number = int(done.stderr)
    except ValueError as exc:
        raise MountError(f"{path} could not be read: asking ended with {done.returncode}") from exc
    raise OSError(number, os.strerror(number))
