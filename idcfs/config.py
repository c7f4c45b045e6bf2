"""Where things live, and what the configuration files say.

    # config.toml: the options of the commands, without their dashes
    cache-dir = "/data/idcfs"

    [prefetch]
    jobs = 32

    [mounts.lung]
    mountpoint = "/srv/lung"
    collection-id = ["lidc_idri", "nlst"]

A key on top holds for every command that has such an option, a table for the
command it is named after, and a table in `mounts` for the mount of that name: the
narrower decides. The system's file is read first, then the user's, which decides over
it table by table. Knows neither commands nor options itself: who they are is told to
`Config.check`.
"""

from __future__ import annotations

import difflib
import os
import re
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
"""Names the one configuration file to read, instead of the system's and the user's."""

SECTIONS = "mounts"
"""The table whose tables describe a mount each."""

VIEWS = "views"
VIEW_OPTION = "view"
"""A table of this name in a mount's table is a list of `NAME=TEXT` for the option."""

_LIKENESS = 0.5
"""Of difflib's measure. What is less like a name is no slip of it: `o` is none of `json`."""

_SECTION_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
"""What may stand between the `@` and the `.service` of a systemd unit as it is."""


def cache_directory() -> Path:
    """Return where listings, objects and layouts are kept unless the user says otherwise.

    Raises UsageError if the user has no home directory.
    """
    directory = _platform_directory("cache")
    if directory is None:
        raise UsageError("you have no home directory: set HOME, or say --cache-dir")
    return directory


def tables_directory() -> Path | None:
    """Return where index tables are kept that were fetched; None for a user without a home."""
    directory = _platform_directory("data")
    return None if directory is None else directory / "tables"


def config_paths() -> list[Path]:
    """Return where configuration is looked for: the system's file, then the user's.

    `$IDCFS_CONFIG` stands for both. A user without a home directory has none.
    """
    if named := os.environ.get(PATH_VARIABLE):
        return [Path(named)]
    directories = (_platform_directory("site"), _platform_directory("config"))
    return [directory / "config.toml" for directory in directories if directory is not None]


def _platform_directory(kind: str) -> Path | None:
    import platformdirs  # only when it is needed: `idcfs --help` is quicker without

    try:
        if kind == "cache":
            directory = platformdirs.user_cache_path("idcfs")
        elif kind == "data":
            directory = platformdirs.user_data_path("idcfs")
        elif kind == "config":
            directory = platformdirs.user_config_path("idcfs")
        else:
            directory = platformdirs.site_config_path("idcfs")
    except RuntimeError:  # what pathlib raises for a user that the system does not know
        return None
    return directory if directory.is_absolute() else None


def unknown(name: str, known: Iterable[str], kind: str, where: str) -> UsageError:
    """Return the error for a name that means nothing, with the nearest one that does."""
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=_LIKENESS)
    advice = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return UsageError(f"{where}: no {kind} is called {name!r}{advice}")


@dataclass(frozen=True, slots=True)
class Said:
    """A value from a configuration file."""

    value: Value
    path: Path
    table: str
    """The table that it stands in: `mount`, `mounts.lung`; "" on top."""

    @property
    def place(self) -> str:
        """The file and the table, as messages name them."""
        return f"{self.path} [{self.table}]" if self.table else str(self.path)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one file says. Keys are option names with hyphens: `cache-dir`."""

    path: Path
    general: Mapping[str, Value] = field(default_factory=dict)
    commands: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def check(
        self, known: Mapping[str, Collection[str]], users: Iterable[str], keys: Collection[str]
    ) -> None:
        """Refuse what would have no effect, as `Config.check` does."""
        for key in self.general:
            if not any(key in known[command] for command in known):
                every_key = {name for command in known for name in known[command]}
                raise unknown(key, every_key, "option", str(self.path))
        for command, options in self.commands.items():
            if command not in known:
                raise unknown(command, [*known, SECTIONS], "command", str(self.path))
            for key in options:
                if key not in known[command]:
                    raise unknown(key, known[command], f"option of {command}", str(self.path))
        for section, options in self.sections.items():
            for key in options:
                if key not in keys and not any(key in known[command] for command in users):
                    every_key = {*keys, *(name for command in users for name in known[command])}
                    raise unknown(key, every_key, f"option of a mount ({section})", str(self.path))


@dataclass(frozen=True, slots=True)
class Config:
    """What the configuration files say together."""

    files: tuple[ConfigFile, ...] = ()
    """The later ones decide."""

    @property
    def sections(self) -> list[str]:
        """The names of the mounts that are described, each once."""
        return list(dict.fromkeys(name for file in self.files for name in file.sections))

    def said(self, command: str, section: str | None = None) -> dict[str, Said]:
        """Return what holds for one command, or for one run of it on a mount's behalf.

        Raises UsageError if no file describes a mount of that name.
        """
        if section is not None and section not in self.sections:
            where = ", ".join(str(file.path) for file in self.files) or "the configuration"
            raise unknown(section, self.sections, "mount", where)
        found: dict[str, Said] = {}
        for file in self.files:
            found |= _from(file, "", file.general)
        for file in self.files:
            found |= _from(file, command, file.commands.get(command, {}))
        if section is not None:
            for file in self.files:
                table = f"{SECTIONS}.{section}"
                found |= _from(file, table, file.sections.get(section, {}))
        return found

    def check(
        self,
        known: Mapping[str, Collection[str]],
        *,
        users: Iterable[str] = (),
        keys: Collection[str] = (),
    ) -> None:
        """Refuse what would have no effect; `known` has the option names of each command.

        The description of a mount may hold the options of the commands `users`, and
        `keys`. Commands are only asked for as far as need be, so `known` may look them
        up late. Raises UsageError naming the nearest table or key that exists.
        """
        for file in self.files:
            file.check(known, list(users), keys)


def _from(file: ConfigFile, table: str, options: Mapping[str, Value]) -> dict[str, Said]:
    return {name: Said(value, file.path, table) for name, value in options.items()}


def read_config() -> Config:
    """Read the configuration files that are there.

    Raises UsageError if one cannot be read, is not TOML, or holds a value that no option
    takes; or if `$IDCFS_CONFIG` names no file.
    """
    files = [read_file(path) for path in config_paths()]
    if not any(files) and os.environ.get(PATH_VARIABLE):
        raise UsageError(f"{PATH_VARIABLE} names {config_paths()[0]}, which does not exist")
    return Config(tuple(file for file in files if file is not None))


def read_file(path: Path) -> ConfigFile | None:
    """Read one configuration file, or return None if there is none."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is not TOML: {exc}") from exc
    sections = _sections(path, content.pop(SECTIONS, {}))
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    general = {name: value for name, value in content.items() if name not in tables}
    return ConfigFile(
        path,
        _options(path, "", general),
        {name: _options(path, name, table) for name, table in tables.items()},
        sections,
    )


def _sections(path: Path, content: object) -> dict[str, dict[str, Value]]:
    """Return the options of each mount that is described."""
    if not isinstance(content, dict) or not all(isinstance(t, dict) for t in content.values()):
        raise UsageError(f"{path}: {SECTIONS!r} holds tables only, such as [{SECTIONS}.lung]")
    for name in content:
        if not _SECTION_NAME.fullmatch(name):
            raise UsageError(
                f"{path}: a mount cannot be called {name!r}: use letters, digits and _ . : -"
            )
    return {name: _section(path, f"{SECTIONS}.{name}", table) for name, table in content.items()}


def _section(path: Path, place: str, table: Mapping[str, object]) -> dict[str, Value]:
    """Return the options of one mount; its table of views becomes the option of their name."""
    views = table.get(VIEWS, {})
    if not isinstance(views, dict) or not all(isinstance(text, str) for text in views.values()):
        raise UsageError(
            f"{path}: [{place}.{VIEWS}] holds only lines such as: by-modality = "
            '"%Modality/%PatientID"'
        )
    options = _options(path, place, {key: each for key, each in table.items() if key != VIEWS})
    if views and VIEW_OPTION in options:
        raise UsageError(
            f"{path}: [{place}] has both {VIEW_OPTION!r} and {VIEWS!r}; say all in one"
        )
    if views:
        options[VIEW_OPTION] = [f"{name}={text}" for name, text in views.items()]
    return options


def _options(path: Path, place: str, table: Mapping[str, object]) -> dict[str, Value]:
    """Return a table's options, their names with hyphens as on the command line."""
    options: dict[str, Value] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            raise UsageError(
                f"{path}: [{place}.{name}] means nothing; mounts are [{SECTIONS}.NAME]"
            )
        if not _is_value(value):
            raise UsageError(f"{path}: {name!r} must be a string, a number, a boolean or a list")
        options[name.replace("_", "-")] = value
    return options


def _is_value(value: object) -> TypeGuard[Value]:
    if isinstance(value, list):
        return all(isinstance(each, Scalar) for each in value)
    return isinstance(value, Scalar)
