"""What `mount -o` says, in the words of /etc/fstab, and whose the files are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idcfs.vfs.attributes import Ownership

_IGNORED = frozenset(
    {
        "ro",
        "auto",
        "noauto",
        "user",
        "nouser",
        "users",
        "owner",
        "group",
        "_netdev",
        "nofail",
        "defaults",
        "dev",
        "suid",
        "exec",
        "rw",
    }
)
"""Words of /etc/fstab that say nothing to a read-only FUSE mount, or are always so."""

_IGNORED_PREFIXES = ("x-", "X-", "user=", "comment=", "uhelper=", "helper=")


_MAX_ID = 2**32 - 2
"""The one above stands for none, in chown(2)."""

_MODE_FORM = "permission bits in octal, such as 0555"


@dataclass(slots=True)
class MountOptions:
    """What `-o` said."""

    allow_other: bool = False
    allow_nonempty: bool = False
    numbers: dict[str, int] = field(default_factory=dict)
    """uid and gid in decimal, dir_mode and file_mode in octal."""
    fuse: list[str] = field(default_factory=list)


def parse_mount_options(words: tuple[str, ...]) -> MountOptions:
    """Sort the words of `-o a,b=c` by who is to have them. Raises UsageError."""
    options = MountOptions()
    for word in (part for each in words for part in each.split(",") if part):
        name, _, value = word.partition("=")
        if name == "allow_other":
            options.allow_other = True
        elif name == "nonempty":
            options.allow_nonempty = True
        elif name in {"uid", "gid", "dir_mode", "file_mode"}:
            options.numbers[name] = _parse_number(name, value, f"-o {name}")
        elif name == "subtype":
            raise UsageError("-o subtype cannot be changed: idcfs knows its own mounts by it")
        elif name not in _IGNORED and not word.startswith(_IGNORED_PREFIXES):
            options.fuse.append(word)
    return options


def _parse_number(name: str, text: str, said: str) -> int:
    octal = name.endswith("mode")
    try:
        number = int(text, 8 if octal else 10)
    except ValueError:
        number = -1
    if not 0 <= number <= (0o777 if octal else _MAX_ID):
        kind = _MODE_FORM if octal else f"a number from 0 to {_MAX_ID}"
        raise UsageError(f"{said} must be {kind}, not {text!r}")
    return number


class OwnershipNumber(click.types.StringParamType):
    """The text of a uid, gid, dir_mode or file_mode, checked where it is said."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the text. Fails as a usage error of the option if it is none."""
        assert param is not None
        name = str(param.name)
        if name.endswith("mode") and not isinstance(value, str):
            # In config.toml 0o755 has become 493 by now, and nobody can tell 0o444 from 292.
            self.fail(f'it must be {_MODE_FORM}, and in quotes: "0555"', param, ctx)
        text = str(value)
        try:
            _parse_number(name, text, "it")
        except UsageError as exc:
            self.fail(str(exc), param, ctx)
        return text


def make_ownership(given: Mapping[str, str | None], options: MountOptions) -> Ownership:
    """Return whose the files are: `-o` goes before the options of the same names.

    Raises UsageError for what is no number, or no permissions.
    """
    from idcfs.vfs.attributes import Ownership

    numbers = {
        name: _parse_number(name, text, f"--{name.replace('_', '-')}")
        for name, text in given.items()
        if text is not None
    }
    numbers |= options.numbers
    return Ownership(
        uid=numbers.get("uid", os.getuid()),
        gid=numbers.get("gid", os.getgid()),
        directory_mode=numbers["dir_mode"],
        file_mode=numbers["file_mode"],
    )
