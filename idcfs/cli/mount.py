"""`idcfs mount`."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import platformdirs

from idcfs.cli.chosen import NAMES, choose
from idcfs.cli.console import complain_of_each, human_bytes
from idcfs.cli.log_lines import file_formatter
from idcfs.cli.mount_options import OwnershipNumber, make_ownership, parse_mount_options
from idcfs.cli.options import (
    NonEmptyPath,
    endpoint_options,
    index_option,
    limit_options,
    log_option,
    mountpoint_argument,
    selection_options,
)
from idcfs.cli.settings import name_option
from idcfs.cli.views import parse_views, view_option
from idcfs.config import cache_directory
from idcfs.errors import UsageError
from idcfs.model import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from idcfs.catalog.catalog import Catalog
    from idcfs.cli.options import Selected
    from idcfs.cli.views import ViewOption
    from idcfs.model import TreeTotals
    from idcfs.mount.request import MountRequest, Picked, ViewRequest


@click.command()
@mountpoint_argument
@selection_options
@index_option
@endpoint_options
@click.option(
    "--dir-template",
    default=DEFAULT_TEMPLATE,
    show_default=True,
    help='Where each series goes; "" puts all files into one directory.',
)
@view_option
@click.option("--cache-dir", type=NonEmptyPath(), help="Where fetched files are kept.")
@limit_options
@click.option(
    "--verify-reads",
    is_flag=True,
    help="Compare cached bytes with their checksums at every read, not only at the first.",
)
@click.option("--foreground", is_flag=True, help="Stay in the foreground, and log to the terminal.")
@click.option("--allow-other", is_flag=True, help="Let other users in, too.")
@click.option(
    "--uid", type=OwnershipNumber(), metavar="N", help="Owner of all files.  [default: you]"
)
@click.option(
    "--gid", type=OwnershipNumber(), metavar="N", help="Group of all files.  [default: yours]"
)
@click.option(
    "--dir-mode",
    type=OwnershipNumber(),
    metavar="MODE",
    default="0555",
    show_default=True,
    help="Permissions of directories.",
)
@click.option(
    "--file-mode",
    type=OwnershipNumber(),
    metavar="MODE",
    default="0444",
    show_default=True,
    help="Permissions of files.",
)
@click.option(
    "-o",
    "--mount-options",
    multiple=True,
    metavar="OPTS",
    help="Comma-separated mount options, as in /etc/fstab: allow_other, uid=, gid=, dir_mode=,"
    " file_mode=, nonempty; others go to libfuse.",
)
@name_option
@log_option
def mount(
    mountpoint: Path,
    selected: Selected,
    index_path: Path | None,
    endpoint_url: str | None,
    source: Literal["aws", "gcs"],
    dir_template: str,
    views: tuple[str, ...],
    cache_dir: Path | None,
    cache_size: str | None,
    cache_shared: bool | None,
    min_free: str | None,
    verify_reads: bool,
    foreground: bool,
    allow_other: bool,
    uid: str | None,
    gid: str | None,
    dir_mode: str,
    file_mode: str,
    mount_options: tuple[str, ...],
) -> None:
    """Show IDC, or a selection of it, as a directory tree at MOUNTPOINT.

    Returns when the mount answers. Unmount with: idcfs umount MOUNTPOINT
    """
    from idcfs.mount.request import MountRequest

    options = parse_mount_options(mount_options)
    ownership = make_ownership(
        {"uid": uid, "gid": gid, "dir_mode": dir_mode, "file_mode": file_mode}, options
    )
    kept_files = _KeptFiles()
    request = MountRequest(
        mountpoint=mountpoint.absolute(),
        views=_view_requests(parse_views(views), dir_template, selected, kept_files),
        index_path=index_path.absolute() if index_path else None,
        cache_dir=(cache_dir or cache_directory()).absolute(),
        cache_size=cache_size,
        cache_shared=cache_shared,
        min_free=min_free,
        verify_reads=verify_reads,
        endpoint_url=endpoint_url,
        source=source,
        ownership=ownership,
        allow_other=allow_other or options.allow_other,
        allow_nonempty=options.allow_nonempty,
        fuse_options=tuple(options.fuse),
        in_foreground=foreground,
        kept_files=tuple(kept_files.descriptors),
    )
    if foreground:
        _run_in_foreground(request)
    else:
        _run_in_background(request)


class _KeptFiles:
    """Manifests that can be read again whenever the index changes."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        """Open for good: of files without a name, with what came through pipes."""
        self.names = dict(NAMES)
        """What the user calls them, by path."""

    def keep(self, path: Path) -> Path:
        """Return where a manifest can be read at any time. Raises UsageError if it cannot be."""
        if path.is_file() and not path.is_relative_to("/dev") and not path.is_relative_to("/proc"):
            return path.absolute()
        name = self.names.get(str(path), str(path))
        try:
            with path.open("rb") as manifest, tempfile.TemporaryFile() as kept:
                shutil.copyfileobj(manifest, kept)
                self.descriptors.append(os.dup(kept.fileno()))
        except OSError as exc:
            raise UsageError(f"cannot read the manifest {name}: {exc.strerror}") from exc
        kept_path = f"/proc/self/fd/{self.descriptors[-1]}"
        self.names[kept_path] = name
        return Path(kept_path)


def _view_requests(
    views: Sequence[ViewOption], template: str, selected: Selected, kept_files: _KeptFiles
) -> dict[str, ViewRequest]:
    """Return what to show: a tree for each view, or one that is the whole mount."""
    from idcfs.mount.request import ViewRequest

    if selected.manifest is not None:
        selected = replace(selected, manifest=kept_files.keep(selected.manifest))
    select = functools.partial(_select, names=kept_files.names)
    if not views:
        return {"": ViewRequest(template, functools.partial(select, selected=selected))}
    return {
        view.name: ViewRequest(
            template if view.template is None else view.template,
            functools.partial(
                select,
                selected=view.narrow(selected),
                manifest=kept_files.keep(view.manifest) if view.manifest else None,
            ),
        )
        for view in views
    }


def _select(
    catalog: Catalog,
    *,
    selected: Selected,
    names: Mapping[str, str],
    manifest: Path | None = None,
) -> Picked:
    """Return what is to be shown: of a manifest's series only those that are selected."""
    from idcfs.mount.request import Picked

    if (manifest, selected.manifest) == (None, None) and selected.selection.is_everything:
        return Picked(None)
    chosen = choose(catalog, (str(manifest),) if manifest else (), selected, names)
    return Picked(chosen.rows, chosen.problems)


def _told(request: MountRequest, release: str, totals: TreeTotals) -> str:
    return (
        f"mounted {release} at {request.mountpoint}: {totals.series_count:,} series, "
        f"{totals.instance_count:,} files, {human_bytes(totals.size_bytes)}"
    )


def _run_in_foreground(request: MountRequest) -> None:
    from idcfs.mount.job import run_mount
    from idcfs.mount.logs import FloodFilter

    for handler in logging.getLogger().handlers:
        handler.addFilter(FloodFilter())
    run_mount(
        request,
        lambda *what: click.echo(f"{_told(request, *what)} (Ctrl-C unmounts)"),
        complain_of_each,
    )


def _run_in_background(request: MountRequest) -> None:
    """Print what is mounted when it is ready, and leave a daemon that logs to a file."""
    from idcfs.mount.daemon import run_detached
    from idcfs.mount.job import run_mount
    from idcfs.mount.mountpoints import resolve

    # One log for a mount point, however it is written. A daemon must not ask its own mount.
    place = resolve(request.mountpoint)

    def run(ready: Callable[[str], None]) -> None:
        def switch_log_and_tell(release: str, totals: TreeTotals) -> None:
            _log_to_file(place)
            ready(_told(request, release, totals))

        run_mount(request, switch_log_and_tell, complain_of_each)

    click.echo(run_detached(run))


def _log_to_file(mountpoint: Path) -> None:
    """Log to a file of bounded size from now on, if one can be opened."""
    from idcfs.mount.logs import FloodFilter, log_path, open_log
    from idcfs.mount.mountpoints import FILE_SYSTEM_TYPE
    from idcfs.mount_table import mounts

    path = log_path(platformdirs.user_log_path("idcfs"), mountpoint)
    try:
        ours = (each.mountpoint for each in mounts() if each.type == FILE_SYSTEM_TYPE)
        handler = open_log(path, ours)
    except OSError as exc:
        logging.getLogger(__name__).warning("cannot log to %s: %s", path, exc.strerror)
    else:
        handler.setFormatter(file_formatter())
        handler.addFilter(FloodFilter())
        logging.getLogger().handlers[:] = [handler]
