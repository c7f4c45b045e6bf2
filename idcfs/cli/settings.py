"""Options from the environment and from config.toml: flags win, then variables, then the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idcfs.config import Config, Value

_VARIABLE_PREFIX = "IDCFS"


def option_names(command: click.Command) -> dict[str, click.Option]:
    """Return what can be set for a command, by option name without dashes: `cache-dir`.

    A group's are those of all its subcommands.
    """
    if isinstance(command, click.Group):
        return {
            name: option
            for subcommand in command.commands.values()
            for name, option in option_names(subcommand).items()
        }
    return {
        _name(parameter): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in ("help", "version")
    }


def take_variables(command_name: str, command: click.Command) -> None:
    """Let `IDCFS_CACHE_DIR`, or `IDCFS_MOUNT_CACHE_DIR` for one command, set `--cache-dir`."""
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            take_variables(command_name, subcommand)
    for name, option in option_names(command).items():
        variable = name.upper().replace("-", "_")
        option.envvar = [
            f"{_VARIABLE_PREFIX}_{command_name.upper()}_{variable}",
            f"{_VARIABLE_PREFIX}_{variable}",
        ]


class OptionNames(Mapping[str, "dict[str, click.Option]"]):
    """The options of each command by name; a command is loaded when it is asked for."""

    def __init__(self, names: Iterable[str], load: Callable[[str], click.Command]) -> None:
        self._names = list(names)
        self._load = load

    def __getitem__(self, command: str) -> dict[str, click.Option]:
        return option_names(self.command(command))

    def command(self, name: str) -> click.Command:
        """Load a command."""
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __contains__(self, command: object) -> bool:
        return command in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def default_map(config: Config, command: str, known: OptionNames) -> dict[str, object]:
    """Return what the file says for one command, as click's `default_map`.

    Raises UsageError for a table or key that none of the commands knows.
    """
    if config.is_empty:
        return {}
    config.check(known)
    found = known.command(command)
    said = config.options_of(command)
    if isinstance(found, click.Group):
        # click hands each subcommand the part of the map that has its name.
        return {name: _values(said, each) for name, each in found.commands.items()}
    return _values(said, found)


def _values(said: Mapping[str, Value], command: click.Command) -> dict[str, object]:
    options = option_names(command)
    return {
        str(options[name].name): _for_click(options[name], value)
        for name, value in said.items()
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
