"""Options from the environment and from config.toml: flags win, then variables, then the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idcfs.config import Config, Said

Command = TypeVar("Command", bound="Callable[..., Any]")

VARIABLE_PREFIX = "IDCFS"

SECTION = "section"
"""The argument behind `--name`, which stands on the command line only."""

_NO_SETTINGS = ("help", "version", SECTION)

SECTION_USERS = ("mount", "prefetch")
"""The commands whose options may stand in the description of a mount."""

MOUNTPOINT = "mountpoint"
"""The argument that a mount's table may hold like an option."""

_SECTION_SAID = "idcfs.section"


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
        if isinstance(parameter, click.Option)
        and parameter.name not in ("help", "version", SECTION)
    }


def take_variables(command_name: str, command: click.Command) -> None:
    """Let `IDCFS_CACHE_DIR`, or `IDCFS_MOUNT_CACHE_DIR` for one command, set `--cache-dir`."""
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            take_variables(command_name, subcommand)
    for name, option in option_names(command).items():
        variable = name.upper().replace("-", "_")
        option.envvar = [
            f"{VARIABLE_PREFIX}_{command_name.upper()}_{variable}",
            f"{VARIABLE_PREFIX}_{variable}",
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


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration files, held against the commands that they are for."""

    config: Config
    known: OptionNames

    def check(self) -> None:
        """Raise UsageError for a table or key that none of the commands knows."""
        if self.config.files:
            self.config.check(self.known, users=SECTION_USERS, keys=(MOUNTPOINT,))

    def defaults(self, command: str, section: str | None = None) -> dict[str, object]:
        """Return what the files say for one command, as click's `default_map`.

        Raises UsageError if there is no mount called `section`, and as `for_click`.
        """
        said = self.config.said(command, section)
        if not said:
            return {}
        found = self.known.command(command)
        if isinstance(found, click.Group):
            # click hands each subcommand the part of the map that has its name.
            return {name: _values(said, each) for name, each in found.commands.items()}
        return _values(said, found)


def name_option(command: Command) -> Command:
    """Add `--name`: the options of this command, and MOUNTPOINT, as said for one mount."""
    return click.option(
        "--name",
        SECTION,
        metavar="NAME",
        is_eager=True,
        expose_value=False,
        callback=_take_section,
        help="Take what [mounts.NAME] in config.toml says of this command.",
    )(command)


def _take_section(ctx: click.Context, parameter: click.Parameter, section: str | None) -> None:
    if section is not None:
        settings = ctx.find_object(Settings)
        assert settings is not None
        assert ctx.info_name is not None
        ctx.default_map = settings.defaults(ctx.info_name, section)
        ctx.meta[_SECTION_SAID] = section


def _values(said: Mapping[str, Said], command: click.Command) -> dict[str, object]:
    parameters: dict[str, click.Parameter] = dict(option_names(command))
    if (mountpoint := find_mountpoint(command)) is not None:
        parameters[MOUNTPOINT] = mountpoint
    return {
        str(parameters[name].name): for_click(parameters[name], each)
        for name, each in said.items()
        if name in parameters
    }


def find_mountpoint(command: click.Command) -> click.Parameter | None:
    """Return a command's argument MOUNTPOINT, or None if it has none."""
    return next((each for each in command.params if each.name == MOUNTPOINT), None)


def _name(parameter: click.Parameter) -> str:
    """Return a name as in files and variables: the first long one, else the argument's."""
    long = next((each for each in parameter.opts if each.startswith("--")), None)
    return long.removeprefix("--") if long else str(parameter.name).replace("_", "-")


def for_click(parameter: click.Parameter, said: Said) -> object:
    """Return a value of a file as click wants it for a parameter.

    Raises UsageError for what click could not even look at: a list where one value is
    meant, a path that is no text, or one below a home directory that nobody has.
    """
    value = said.value
    where = f"{said.place}: {_name(parameter)}"
    if getattr(parameter, "multiple", False):
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        raise UsageError(f"{where} takes one value, not a list")
    if not isinstance(parameter.type, click.Path):
        return value
    if not isinstance(value, str):
        raise UsageError(f"{where} takes a path in quotes, not {str(value).lower()}")
    if not value:
        return value  # not the current directory: the type refuses it
    try:
        # The shell does this for flags; nobody else does it for a file.
        return str(Path(value).expanduser())
    except RuntimeError as exc:
        raise UsageError(f"{where}: there is no home directory for {value!r}") from exc


def find_origin(error: click.BadParameter) -> str | None:
    """Return the variable, or the file and key, that a wrong value is from; None for a flag."""
    ctx, parameter = error.ctx, error.param
    if ctx is None or parameter is None:
        return None
    source = ctx.get_parameter_source(str(parameter.name))
    if source is ParameterSource.ENVIRONMENT:
        return find_variable(parameter)
    settings, command = ctx.find_object(Settings), ctx.find_root().invoked_subcommand
    if source is not ParameterSource.DEFAULT_MAP or settings is None or command is None:
        return None
    key = _name(parameter)
    said = settings.config.said(command, ctx.meta.get(_SECTION_SAID)).get(key)
    return None if said is None else f"{said.place}: {key}"


def find_variable(parameter: click.Parameter) -> str | None:
    """Return the variable that sets a parameter, or None if none does."""
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
    return next((each for each in variables or () if os.environ.get(each)), None)
