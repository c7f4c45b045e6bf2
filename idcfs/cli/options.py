"""Options that several commands share, each defined once."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from idcfs.cli.log_lines import stderr_formatter

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.catalog.selection import Selection

Command = TypeVar("Command", bound="Callable[..., Any]")

_LOG_FLAG_GIVEN = "idcfs.log-level-flag"

STANDARD_INPUT = Path("/dev/stdin")
"""What `-` stands for where a file is meant."""

_FILTERS = {
    "collection_id": "Collections.",
    "patient_id": "Patients, by PatientID.",
    "study_instance_uid": "Studies, by StudyInstanceUID.",
    "series_instance_uid": "Series, by SeriesInstanceUID.",
    "crdc_series_uuid": "Series of any release, by crdc_series_uuid.",
    "analysis_result_id": "Analysis results.",
    "modality": "Modalities, such as CT.",
}


class _Identifiers(click.types.StringParamType):
    """One or more values; `split_values` takes them apart, here for variables too."""

    envvar_list_splitter = ","  # by default at blanks, which some PatientIDs hold


class NonEmptyPath(click.Path):
    """A path as `Path`; an empty one, which would mean the current directory, is refused."""

    def __init__(
        self,
        *,
        exists: bool = False,
        file_okay: bool = True,
        dir_okay: bool = True,
        allow_dash: bool = False,
    ) -> None:
        super().__init__(
            exists=exists,
            file_okay=file_okay,
            dir_okay=dir_okay,
            allow_dash=allow_dash,
            path_type=Path,
        )

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401  # as in click
        """Return the path. Fails as a usage error if it is empty."""
        if not os.fspath(value):
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


class MountedPath(NonEmptyPath):
    """The path of a mount, which is not looked at: its daemon may hang."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # noqa: ANN401  # as in click
        """Return the path. Fails as a usage error if it is empty."""
        return Path(value) if os.fspath(value) else super().convert(value, param, ctx)


class _Mountpoint(click.Argument):
    """MOUNTPOINT, which `--name` may give as well."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return how it stands in the usage."""
        return [f"[{self.make_metavar(ctx)}]"]


class _MissedPath(MountedPath):
    """Such a path, where there is another way to say it."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return what to do without it."""
        return "Give its path, or --name NAME for [mounts.NAME] of config.toml, if that has one."


def mountpoint_argument(command: Command) -> Command:
    """Add MOUNTPOINT, to commands with `--name`."""
    return click.argument("mountpoint", cls=_Mountpoint, type=_MissedPath())(command)


@dataclass(frozen=True, slots=True)
class Selected:
    """What the selection options said."""

    selection: Selection
    manifest: Path | None
    """Standard input as the file that it is."""


def selection_options(command: Command) -> Command:
    """Add the selection options; the command gets them as one argument `selected`."""

    @functools.wraps(command)
    def with_selection(*args: object, **kwargs: Any) -> object:  # noqa: ANN401
        from idcfs.catalog.selection import Selection

        filters: dict[str, Any] = {name: _values(name, kwargs.pop(name)) for name in _FILTERS}
        selection = Selection(
            **filters,
            where=kwargs.pop("where"),
            analysis_results=kwargs.pop("analysis_results"),
        )
        manifest = kwargs.pop("manifest")
        if manifest is not None and str(manifest) == "-":
            manifest = STANDARD_INPUT
        return command(*args, selected=Selected(selection, manifest), **kwargs)

    decorated: Any = click.option(
        "--manifest",
        type=NonEmptyPath(exists=True, dir_okay=False, allow_dash=True),
        help="A file of s3:// lines or s5cmd commands; - is standard input.",
    )(with_selection)
    decorated = click.option(
        "--where", metavar="SQL", help="A condition over the columns of the index."
    )(decorated)
    decorated = click.option(
        "--analysis-results",
        type=click.Choice(["include", "exclude", "only"]),
        default="include",
        show_default=True,
        help="Take series of analysis results too, or not, or only those.",
    )(decorated)
    for name, text in reversed(_FILTERS.items()):
        decorated = click.option(
            f"--{name.replace('_', '-')}",
            multiple=True,
            type=_Identifiers(),
            metavar="ID",
            help=f"{text} Repeat or separate by commas.",
        )(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


def _values(name: str, said: tuple[str, ...]) -> tuple[str, ...]:
    """Take a filter's values apart. Raises UsageError if there is none in what was said.

    A shell's unset variable would otherwise pick everything, to evict it, say.
    """
    from idcfs.catalog.selection import split_values
    from idcfs.errors import UsageError

    values = split_values(said)
    if said and not values:
        raise UsageError(f"--{name.replace('_', '-')} is empty: give it a value or leave it out")
    return values


def index_option(command: Command) -> Command:
    """Add `--index`."""
    return click.option(
        "--index",
        "index_path",
        type=NonEmptyPath(),
        help="Read this idc_index.parquet instead of the installed one.",
    )(command)


def endpoint_options(command: Command) -> Command:
    """Add `--endpoint-url` and `--source`."""
    command = click.option(
        "--source",
        type=click.Choice(["aws", "gcs"]),
        default="aws",
        show_default=True,
        help="Whose public buckets to read.",
    )(command)
    return click.option(
        "--endpoint-url", metavar="URL", help="Another S3 endpoint, such as a local mirror."
    )(command)


class _Figure(click.types.StringParamType):
    """A figure with a unit, checked here so that it is a usage error of the option."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return it as it was said. Fails as a usage error if it is none."""
        from idcfs.errors import UsageError

        text = str(value)  # a number, in config.toml
        try:
            self._check(text)
        except UsageError as exc:
            self.fail(str(exc), param, ctx)
        return text

    def _check(self, text: str) -> None:
        """Raise UsageError unless it is such a figure."""
        raise NotImplementedError


class Amount(_Figure):
    """A size such as "50G" or "80%"; it is worked out where the disk is known."""

    name = "size"

    def _check(self, text: str) -> None:
        from idcfs.cache.limits import parse_amount

        parse_amount(text, 0)


class CacheSize(Amount):
    """The same, but for a number that lacks its unit."""

    def _check(self, text: str) -> None:
        from idcfs.cache.limits import check_cache_size

        check_cache_size(text)


class Rate(_Figure):
    """Bytes a second, such as "10MB"."""

    name = "rate"

    def _check(self, text: str) -> None:
        from idcfs.prefetch.limit import parse_rate

        parse_rate(text)


def limit_options(command: Command) -> Command:
    """Add `--cache-size`, `--min-free` and `--cache-shared`."""
    command = click.option(
        "--cache-shared/--no-cache-shared",
        default=None,
        help="Several hosts share the cache directory, on NFS or Lustre: use no locks there."
        "  [default: as last said for it]",
    )(command)
    command = click.option(
        "--min-free",
        type=Amount(),
        metavar="SIZE",
        help="Leave so much of the cache's disk free.  [default: 1 GB, or 5% of a small disk]",
    )(command)
    return click.option(
        "--cache-size",
        type=CacheSize(),
        metavar="SIZE",
        help="Let the cache take so much: 50G, 500MB, 1.5TiB, 80% of its disk, none for no"
        " limit, or 0 to store nothing.  [default: 50 GB, or half of what is free]",
    )(command)


def is_flag_given(name: str) -> bool:
    """Tell whether a parameter of the command under way was given as a flag.

    What a variable or the configuration says may be meant for other commands.
    """
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def log_option(command: Command) -> Command:
    """Add `--log-level`, before or behind the command's name; it takes effect at once."""
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="warning",
        show_default=True,
        expose_value=False,
        is_eager=True,
        callback=_set_log_level,
        help="How much to log on standard error.",
    )(command)


def _set_log_level(ctx: click.Context, parameter: click.Parameter, level: str) -> None:
    source = ctx.get_parameter_source(str(parameter.name))
    if source is not ParameterSource.COMMANDLINE and ctx.meta.get(_LOG_FLAG_GIVEN):
        return  # `idcfs --log-level debug mount …` beats what the environment says for mount
    ctx.meta[_LOG_FLAG_GIVEN] = source is ParameterSource.COMMANDLINE
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(stderr_formatter())
        root.addHandler(handler)
    root.setLevel(level.upper())
    for library in ("botocore", "urllib3"):
        # Their debug lines are many for each request, and hide ours.
        logging.getLogger(library).setLevel(max(logging.INFO, root.level))
