"""The `idcfs` command: finds the command asked for, and turns errors into exit statuses."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from typing import TYPE_CHECKING

import click

import idcfs
from idcfs.cli.console import complain
from idcfs.cli.mount_helper import from_mount_fuse
from idcfs.cli.options import log_option
from idcfs.cli.settings import OptionNames, Settings, find_origin, take_variables
from idcfs.config import read_config, unknown
from idcfs.errors import IdcfsError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_COMMANDS = {
    "mount": "Show IDC, or a selection of it, as a directory tree.",
    "umount": "Unmount what `idcfs mount` has mounted.",
    "refresh": "Move a mount on to a new index while it serves.",
    "status": "Tell how mounts fare: requests, hits, bytes, errors.",
    "prefetch": "Bring a selection to a directory or into the cache.",
    "manifest": "Write a selection as s3:// lines.",
    "size": "Tell series, files and bytes of a selection.",
    "query": "Answer SQL over the index tables.",
    "tables": "List the index tables, and fetch those that are not here.",
    "cite": "Tell what to cite for a selection, and its licences.",
    "diff": "Tell what IDC added, revised and removed between two releases.",
    "cache": "Look after the cache: what it holds, what stays, what goes.",
    "config": "Show every setting, and where it comes from.",
    "systemd": "Put systemd units for mounts in place.",
    "doctor": "Find what this machine lacks, and the command that mends it.",
    "demo": "Show the whole job on an embedded object store.",
}
"""Name and summary of each command; its code is imported only when it is called."""


_STDOUT = "standard output"
_INTERRUPTED = 130
_DUCKDB_INTERRUPTED = "Query interrupted"
"""What DuckDB makes of a KeyboardInterrupt that meets it in the middle of a query."""


class _LazyGroup(click.Group):
    """A group whose commands live in modules of the same name in this room."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _load(cmd_name) if cmd_name in _COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            raise unknown(name, _COMMANDS, "command", "idcfs --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _load(name: str) -> click.Command:
    command = getattr(importlib.import_module(f"idcfs.cli.{name}"), name)
    assert isinstance(command, click.Command)
    take_variables(name, command)
    return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every --some-option can also be set as some-option in config.toml, on top or in the"
    " table of a command, and by the variable IDCFS_SOME_OPTION. Flags win.",
)
@click.version_option(idcfs.__version__, prog_name="idcfs")
@log_option
@click.pass_context
def idcfs_command(ctx: click.Context) -> None:
    """The NCI Imaging Data Commons as an ordinary directory tree."""
    if (name := ctx.invoked_subcommand) is not None:
        # The command itself comes first: with luck it knows all the keys, and no other
        # has to be loaded to see whether they are anyone's.
        others = (other for other in _COMMANDS if other != name)
        known = OptionNames([name, *others], _load)
        ctx.obj = Settings(read_config(), known)
        ctx.obj.check()
        ctx.default_map = {name: ctx.obj.defaults(name)}


def main() -> None:
    """Run the command line and exit: 0 for success, 1 for failure, 2 for usage."""
    _mend_streams()
    if (arguments := from_mount_fuse(sys.argv[1:], _COMMANDS)) is not None:
        sys.argv[1:] = arguments
    status = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _leave_stdout()
    except OSError as exc:
        status = _leave_full(exc)
    sys.exit(status)


class _StandardOutput(io.FileIO):
    """Names itself where it cannot be written to: the error comes out of any command."""

    def write(self, content: Buffer, /) -> int:
        try:
            return super().write(content)
        except OSError as exc:
            exc.filename = _STDOUT
            raise


def _mend_streams() -> None:
    """Give standard streams that are closed, or cannot say everything, to what comes after.

    The next file that is opened would take the number of a closed one: the daemon's
    would then be shut with its streams.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest number that is free; for the processes that are started, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # for good
    if type(sys.stdout) is io.TextIOWrapper:  # and not what takes the place of it in tests
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_StandardOutput(sys.stdout.fileno(), "w", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.line_buffering,
            write_through=sys.stdout.write_through,
        )


def _run() -> int:
    try:
        status = idcfs_command.main(standalone_mode=False)
    except click.ClickException as exc:
        if isinstance(exc, click.BadParameter) and (origin := find_origin(exc)) is not None:
            complain(f"{origin}: {exc.message}")  # how to write flags would not help
        else:
            exc.show()
        return exc.exit_code
    except IdcfsError as exc:
        complain(str(exc))
        _tell_traceback()
        return exc.exit_status
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        return _leave_stdout()
    except OSError as exc:
        if exc.filename == _STDOUT:
            return _leave_full(exc)
        where = f" ({exc.filename})" if exc.filename else ""
        complain(f"{exc.strerror or exc}{where}; --log-level debug shows what needed it")
        _tell_traceback()
        return 1
    except Exception as exc:
        if isinstance(exc, RuntimeError) and str(exc) == _DUCKDB_INTERRUPTED:
            complain("interrupted")
            return _INTERRUPTED
        complain(
            f"unexpected {type(exc).__name__}: {exc}; this is a bug "
            "(--log-level debug shows the traceback)"
        )
        _tell_traceback()
        return 1
    return status if isinstance(status, int) else 0


def _leave_full(exc: OSError) -> int:
    complain(f"cannot write to {_STDOUT}: {exc.strerror}")
    return _leave_stdout()


def _leave_stdout() -> int:
    """Let the interpreter's last flush go nowhere: whoever read our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _tell_traceback() -> None:
    logging.getLogger(__name__).debug("the error came from here", exc_info=True)
