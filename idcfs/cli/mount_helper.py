"""What mount(8) calls for a line of /etc/fstab, and how that becomes `idcfs mount`.

    lung        /srv/lung   idcfs        noauto,_netdev,allow_other    mount.idcfs
    lung        /srv/lung   fuse.idcfs   noauto,_netdev,allow_other    through mount.fuse
    idcfs#lung  /srv/lung   fuse         noauto,_netdev,allow_other    through mount.fuse

mount(8) finds `mount.idcfs` in /sbin, and mount.fuse finds `idcfs` on the path. The
source is a mount that config.toml describes, or one of `WHOLE`.
"""

from __future__ import annotations

import getopt
import sys
from typing import TYPE_CHECKING

from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

WHOLE = frozenset({"", "idc", "idcfs", "none"})
"""Sources that name no mount of config.toml: what the options say, or all of IDC."""

_PREFIX = "idcfs#"

_STATUS_OF = {0: 0, 1: 32, 2: 1, 130: 8}
"""Our exit statuses as mount(8) has them: failure, usage, interrupted."""

_OURS_ANYWAY = frozenset({"allow-other", "uid", "gid", "dir-mode", "file-mode"})
"""What `-o` understands by itself."""


def main() -> None:
    """Run as `mount.idcfs SOURCE MOUNTPOINT [-fnsvrw] [-o OPTIONS] [-t TYPE]`."""
    from idcfs.cli import main as commands
    from idcfs.cli.console import complain

    try:
        arguments = translate(sys.argv[1:])
    except UsageError as exc:
        complain(str(exc))
        sys.exit(_STATUS_OF[exc.exit_status])
    if arguments is None:
        sys.exit(0)
    sys.argv[1:] = arguments
    try:
        commands.main()
    except SystemExit as exc:
        sys.exit(_STATUS_OF.get(exc.code if isinstance(exc.code, int) else 0, 32))


def translate(words: Sequence[str]) -> list[str] | None:
    """Return the arguments of `idcfs` for what mount(8) said; None if it only tries out.

    Raises UsageError for a call that mount(8) would not make.
    """
    try:
        flags, places = getopt.gnu_getopt(list(words), "fnsvrwo:t:N:")
    except getopt.GetoptError as exc:
        raise UsageError(f"mount.idcfs: {exc.msg}") from exc
    if len(places) != 2:
        raise UsageError("mount.idcfs is called as: mount.idcfs SOURCE MOUNTPOINT [-o OPTIONS]")
    if any(flag == "-N" for flag, _ in flags):
        raise UsageError("mount.idcfs cannot mount in another namespace; use nsenter")
    if any(flag == "-f" for flag, _ in flags):
        return None
    source, mountpoint = places
    options = [word for flag, text in flags if flag == "-o" for word in text.split(",")]
    return _command(source.removeprefix(_PREFIX), source, mountpoint, options)


def from_mount_fuse(words: Sequence[str], commands: Collection[str]) -> list[str] | None:
    """Return the arguments for `[SOURCE] MOUNTPOINT -o OPTIONS`, or None for other calls.

    That is how mount.fuse calls the program that a file system type is named after. A
    source that has the name of a command is taken for the command.
    """
    if len(words) not in (3, 4) or words[-2] != "-o" or not words[-3].startswith("/"):
        return None
    source = words[0] if len(words) == 4 else ""
    if source in commands:
        return None
    return _command(source, source, words[-3], words[-1].split(","))


def _command(name: str, source: str, mountpoint: str, options: Sequence[str]) -> list[str]:
    """Return `mount …`: options that have our names become flags, the others stay behind -o."""
    from idcfs.cli.mount import mount
    from idcfs.cli.settings import option_names

    known = option_names(mount).keys() - _OURS_ANYWAY
    flags, rest = [], []
    for word in options:
        option, _, value = word.partition("=")
        option = option.replace("_", "-")
        if option in known:
            flags.append(f"--{option}={value}" if "=" in word else f"--{option}")
        elif word:
            rest.append(word)
    if source and not any(word.startswith("fsname=") for word in rest):
        rest.append(f"fsname={source}")  # by which `mount -a` sees that it is mounted
    named = [] if name in WHOLE else [f"--name={name}"]
    return ["mount", *named, *flags, *(["-o", ",".join(rest)] if rest else []), mountpoint]
