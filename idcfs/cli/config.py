"""`idcfs config`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from idcfs.cli.console import complain, printable
from idcfs.cli.options import log_option
from idcfs.cli.settings import (
    MOUNTPOINT,
    SECTION_USERS,
    Settings,
    find_mountpoint,
    find_variable,
    for_click,
    option_names,
)
from idcfs.config import PATH_VARIABLE, cache_directory, config_paths, unknown
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idcfs.config import Said


@dataclass(frozen=True, slots=True)
class _Setting:
    """The value of one option, and where it comes from."""

    value: object
    """None if nothing is said and there is no default."""
    origin: str
    """`default`, `environment` or `file`."""
    where: str
    """The variable, or the file and its table."""


@click.group()
def config() -> None:
    """Show every setting, and where it comes from."""


@config.command()
@click.argument("command", required=False)
@click.option("--name", "section", metavar="NAME", help="Only the mount NAME of config.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@log_option
@click.pass_obj
def show(settings: Settings, command: str | None, section: str | None, as_json: bool) -> None:
    """Show the value of every option, or of those of COMMAND, as no flag changes it.

    Variables win over config.toml, and there a mount's own table wins over that of
    the command, and that over what stands on top.
    """
    if command is not None and command not in settings.known:
        raise unknown(command, settings.known, "command", "config show")
    _complain_of_variables(settings)
    every_command = command is None and section is None
    commands = {
        name: _settings_of(settings, (name,))
        for name in ([command] if command else settings.known if every_command else [])
    }
    names = [section] if section else settings.config.sections if every_command else []
    mounts = {name: _settings_of(settings, SECTION_USERS, name) for name in names}
    if as_json:
        click.echo(json.dumps(_for_json(settings, commands, mounts), indent=2))
    else:
        _tell(settings, commands, mounts)


def _settings_of(
    settings: Settings, commands: tuple[str, ...], section: str | None = None
) -> dict[str, _Setting]:
    """Return the settings of a command, or those that commands take from a mount's table."""
    found: dict[str, _Setting] = {}
    for name in commands:
        said = settings.config.said(name, section)
        for key, option in settings.known[name].items():
            if key not in found:
                found[key] = _setting_of(option, key, said.get(key))
        argument = find_mountpoint(settings.known.command(name))
        if argument is not None and (where := said.get(MOUNTPOINT)) is not None:
            found = {MOUNTPOINT: _setting_said(argument, MOUNTPOINT, where), **found}
    return found


def _setting_of(option: click.Option, key: str, said: Said | None) -> _Setting:
    if (variable := find_variable(option)) is not None:
        text = os.environ[variable]
        _check(option, text, variable)
        return _Setting(text, "environment", variable)
    if said is not None:
        return _setting_said(option, key, said)
    if option.opts[0] == "--cache-dir":
        return _Setting(str(cache_directory()), "default", "")
    default = option.default if isinstance(option.default, str | int | float) else None
    if option.is_flag:
        default = bool(default)
    return _Setting(default, "default", "")


def _setting_said(parameter: click.Parameter, key: str, said: Said) -> _Setting:
    value = for_click(parameter, said)
    _check(parameter, value, f"{said.place}: {key}")
    return _Setting(value, "file", said.place)


def _check(parameter: click.Parameter, value: object, where: str) -> None:
    """Raise UsageError, which names the place, if a value makes no sense."""
    ctx = click.Context(click.Command("show"))
    try:
        parameter.type_cast_value(ctx, parameter.value_from_envvar(ctx) or value)
    except click.BadParameter as exc:
        raise UsageError(f"{where}: {exc.message}") from exc


def _complain_of_variables(settings: Settings) -> None:
    """Tell of variables that look like ours and set nothing."""
    known = {PATH_VARIABLE}
    for name in settings.known:
        for option in option_names(settings.known.command(name)).values():
            known.update(option.envvar or ())
    for variable in sorted(os.environ):
        if variable.startswith("IDCFS_") and variable not in known:
            complain(str(unknown(variable, known, "variable", "environment")))


def _for_json(
    settings: Settings,
    commands: Mapping[str, Mapping[str, _Setting]],
    mounts: Mapping[str, Mapping[str, _Setting]],
) -> dict[str, Any]:
    read = {file.path for file in settings.config.files}
    return {
        "files": [{"path": str(path), "read": path in read} for path in config_paths()],
        "commands": {name: _plain(each) for name, each in commands.items()},
        "mounts": {name: _plain(each) for name, each in mounts.items()},
    }


def _plain(settings: Mapping[str, _Setting]) -> dict[str, Any]:
    return {
        key: {"value": each.value, "from": each.origin, "where": each.where or None}
        for key, each in settings.items()
    }


def _tell(
    settings: Settings,
    commands: Mapping[str, Mapping[str, _Setting]],
    mounts: Mapping[str, Mapping[str, _Setting]],
) -> None:
    read = {file.path for file in settings.config.files}
    for path in config_paths():
        click.echo(f"# {path}" if path in read else f"# {path} (there is none)")
    tables = {**commands, **{f"mounts.{name}": each for name, each in mounts.items()}}
    for table, each in tables.items():
        click.echo(f"\n[{table}]")
        width = max(map(len, each), default=0)
        for key, setting in each.items():
            if setting.value is None:
                click.echo(f"# {key} is not set")
                continue
            value = printable(json.dumps(setting.value, ensure_ascii=False))
            click.echo(f"{key:{width}} = {value:24}  # {setting.where or 'default'}")
