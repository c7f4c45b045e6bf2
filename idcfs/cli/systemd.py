"""`idcfs systemd`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

import idcfs
from idcfs.cli.options import NonEmptyPath, log_option
from idcfs.errors import IdcfsError

_WRITTEN_PROGRAM = "/usr/bin/idcfs"
"""How the unit files name the program."""

_NO_SPECIAL_BYTES = frozenset(" \t\"'\\")


@click.group()
def systemd() -> None:
    """Put systemd units for mounts in place."""


@systemd.command()
@click.option("--user", is_flag=True, help="For your own service manager, not the system's.")
@click.option(
    "--directory",
    "chosen",
    type=NonEmptyPath(file_okay=False),
    help="Where the units go.  [default: where systemd looks]",
)
@log_option
def install(user: bool, chosen: Path | None) -> None:
    """Write the units of mounts and prefetches where systemd finds them.

    Each table [mounts.NAME] of config.toml is then idcfs@NAME.service, and
    idcfs-prefetch@NAME.timer fills its cache at night. What is there is replaced.
    """
    kind = "user" if user else "system"
    directory = chosen or _unit_directory(user)
    program = _program()
    for source in sorted((_shipped() / kind).iterdir()):
        text = source.read_text().replace(_WRITTEN_PROGRAM, program)
        _write(directory / source.name, text, user)
    if not user:
        sysusers = _shipped() / "sysusers.d" / "idcfs.conf"
        _write(_sysusers_directory(chosen) / "idcfs.conf", sysusers.read_text(), user)
    for line in _next_steps(user):
        click.echo(line)


def _shipped() -> Path:
    """Return the directory of the unit files: in the package, or beside it in a clone."""
    package = Path(idcfs.__file__).parent
    inside = package / "systemd"
    return inside if inside.is_dir() else package.parent / "systemd"


def _unit_directory(user: bool) -> Path:
    if not user:
        return Path("/etc/systemd/system")
    from platformdirs import user_config_path

    return user_config_path("systemd") / "user"


def _sysusers_directory(chosen: Path | None) -> Path:
    return chosen / "sysusers.d" if chosen else Path("/etc/sysusers.d")


def _program() -> str:
    """Return the command of this installation as units write it. Raises IdcfsError."""
    program = str(Path(sys.executable).with_name("idcfs"))
    if not os.access(program, os.X_OK):
        raise IdcfsError(f"{program} is missing, which the units would run; install idcfs anew")
    if _NO_SPECIAL_BYTES & set(program):
        raise IdcfsError(f"systemd cannot run {program}: install idcfs where paths have no blanks")
    return program.replace("%", "%%")


def _write(path: Path, text: str, user: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except PermissionError as exc:
        advice = "see whose it is" if user else "say --user for units of your own, or use sudo"
        raise IdcfsError(f"{path} cannot be written by you: {advice}") from exc
    except OSError as exc:
        raise IdcfsError(f"{path} cannot be written: {exc.strerror}") from exc
    click.echo(f"wrote {path}")


def _next_steps(user: bool) -> list[str]:
    control = "systemctl --user" if user else "systemctl"
    home = "~/.config" if user else "/etc/xdg"
    steps = [
        f"describe each mount in {home}/idcfs/config.toml, for example:",
        "    [mounts.lung]",
        f'    mountpoint = "{"~/idc" if user else "/srv/idc"}"',
        '    collection-id = "lidc_idri"',
        *([] if user else ["    allow-other = true"]),
        "then:",
    ]
    if not user:
        steps += [
            "    systemd-sysusers",
            "    install -d -o idcfs /srv/idc",
            "    echo user_allow_other >> /etc/fuse.conf",
        ]
    steps += [
        f"    {control} daemon-reload",
        f"    {control} enable --now idcfs@lung.service",
        f"    {control} enable --now idcfs-prefetch@lung.timer     # fills its cache at night",
    ]
    if user:
        steps.append("    loginctl enable-linger     # if mounts shall outlive your session")
    return steps
