"""Options from the environment and from config.toml: flags win, then variables, then the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idcfs.config import Config, Value

_VARIABLE_PREFIX = "IDCFS"


def option_names(command: click.Command) -> dict[str, click.Option]:
    """Return what can be set for a command, by option name without dashes: `cache-dir`."""
    return {
        _name(parameter): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in ("help", "version")
    }


def take_variables(command_name: str, command: click.Command) -> None:
    """Let `IDCFS_CACHE_DIR`, or `IDCFS_MOUNT_CACHE_DIR` for one command, set `--cache-dir`."""
    for name, option in option_names(command).items():
        variable = name.upper().replace("-", "_")
        option.envvar = [
            f"{_VARIABLE_PREFIX}_{command_name.upper()}_{variable}",
            f"{_VARIABLE_PREFIX}_{variable}",
        ]


def default_map(
    config: Config, command_name: str, commands: Mapping[str, click.Command]
) -> dict[str, object]:
    """Return what the file says for one command, as click's `default_map`.

    Raises UsageError for a table or key that none of the commands knows.
    """
    known = {name: option_names(command) for name, command in commands.items()}
    config.check(known)
    options = known[command_name]
    return {
        str(options[name].name): _for_click(options[name], value)
        for name, value in config.options_of(command_name).items()
        if name in options
    }


def _name(option: click.Option) -> str:
    """Return an option's name in files and variables: the first long one, else the argument's."""
    long = next((each for each in option.opts if each.startswith("--")), None)
    return long.removeprefix("--") if long else str(option.name).replace("_", "-")


def _for_click(option: click.Option, value: Value) -> object:
    if option.multiple and not isinstance(value, list):
        return [value]
    if isinstance(option.type, click.Path) and isinstance(value, str):
        # The shell does this for flags; nobody else does it for a file.
        return str(Path(value).expanduser())
    return value
