"""Where things live, and what the user's configuration file says.

    # config.toml: the options of the commands, without their dashes
    cache-dir = "/data/idcfs"

    [prefetch]
    jobs = 32

A key on top holds for every command that has such an option, a table for the
command it is named after. Knows neither commands nor options itself: who they
are is told to `Config.check`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Scalar = str | int | float | bool
Value = Scalar | list[Scalar]

PATH_VARIABLE = "IDCFS_CONFIG"
"""Names another configuration file."""


def cache_directory() -> Path:
    """Return where listings, objects and layouts are kept unless the user says otherwise.

    Raises UsageError if the user has no home directory.
    """
    directory = _platform_directory("cache")
    if directory is None:
        raise UsageError("you have no home directory: set HOME, or say --cache-dir")
    return directory


def config_path() -> Path | None:
    """Return where the configuration file is: `$IDCFS_CONFIG`, or the platform's place for it.

    None for a user without a home directory.
    """
    if named := os.environ.get(PATH_VARIABLE):
        return Path(named)
    directory = _platform_directory("config")
    return None if directory is None else directory / "config.toml"


def _platform_directory(kind: str) -> Path | None:
    import platformdirs  # only when it is needed: `idcfs --help` is quicker without

    try:
        if kind == "cache":
            directory = platformdirs.user_cache_path("idcfs")
        else:
            directory = platformdirs.user_config_path("idcfs")
    except RuntimeError:  # what pathlib raises for a user that the system does not know
        return None
    return directory if directory.is_absolute() else None


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file says. Keys are option names with hyphens: `cache-dir`."""

    path: Path
    general: Mapping[str, Value] = field(default_factory=dict)
    commands: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Tell whether it says nothing."""
        return not self.general and not self.commands

    def options_of(self, command: str) -> dict[str, Value]:
        """Return what it says for one command; the command's own table decides."""
        return {**self.general, **self.commands.get(command, {})}

    def check(self, known: Mapping[str, Collection[str]]) -> None:
        """Refuse what would have no effect; `known` has the option names of each command.

        Commands are only asked for as far as need be, so `known` may look them up late.
        Raises UsageError naming the nearest table or key that exists.
        """
        for key in self.general:
            if not any(key in known[command] for command in known):
                every_key = {name for command in known for name in known[command]}
                raise self._unknown(key, every_key, "option")
        for command, options in self.commands.items():
            if command not in known:
                raise self._unknown(command, known, "command")
            for key in options:
                if key not in known[command]:
                    raise self._unknown(key, known[command], f"option of {command}")

    def _unknown(self, name: str, known: Iterable[str], kind: str) -> UsageError:
        nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0)
        advice = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return UsageError(f"{self.path}: no {kind} is called {name!r}{advice}")


def read_config(path: Path | None = None) -> Config:
    """Read the configuration file; without one, an empty configuration.

    `path` stands in for `config_path()`. Raises UsageError if it cannot be read, is
    not TOML, or holds a value that no option takes; or if `$IDCFS_CONFIG` names no file.
    """
    path = path or config_path()
    if path is None:
        return Config(Path(os.devnull))
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError) as exc:
        if os.environ.get(PATH_VARIABLE):
            raise UsageError(f"{PATH_VARIABLE} names {path}, which does not exist") from exc
        return Config(path)
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is not TOML: {exc}") from exc
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    general = {name: value for name, value in content.items() if name not in tables}
    return Config(
        path,
        _options(path, general),
        {name: _options(path, table) for name, table in tables.items()},
    )


def _options(path: Path, table: Mapping[str, object]) -> dict[str, Value]:
    """Return a table's options, their names with hyphens as on the command line."""
    options: dict[str, Value] = {}
    for name, value in table.items():
        if not _is_value(value):
            raise UsageError(f"{path}: {name!r} must be a string, a number, a boolean or a list")
        options[name.replace("_", "-")] = value
    return options


def _is_value(value: object) -> TypeGuard[Value]:
    if isinstance(value, list):
        return all(isinstance(each, Scalar) for each in value)
    return isinstance(value, Scalar)
