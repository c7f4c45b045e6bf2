"""The `idcfs` command: finds the command asked for, and turns errors into exit statuses."""

from __future__ import annotations

import importlib
import logging
import sys

import click

import idcfs
from idcfs.errors import IdcfsError

_COMMANDS = {
    "mount": "Show IDC, or a selection of it, as a directory tree.",
    "umount": "Unmount what `idcfs mount` has mounted.",
    "prefetch": "Bring a selection to a directory or into the cache.",
    "manifest": "Write a selection as s3:// lines.",
    "size": "Tell series, files and bytes of a selection.",
    "query": "Answer SQL over the index tables.",
    "doctor": "Find what this machine lacks, and the command that mends it.",
    "demo": "Show the whole job on an embedded object store.",
}
"""Name and summary of each command; its code is imported only when it is called."""


class _LazyGroup(click.Group):
    """A group whose commands live in modules of the same name in this room."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"idcfs.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(idcfs.__version__, prog_name="idcfs")
def idcfs_command() -> None:
    """The NCI Imaging Data Commons as an ordinary directory tree."""


def main() -> None:
    """Run the command line and exit: 0 for success, 1 for failure, 2 for usage."""
    try:
        status = idcfs_command.main(standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except IdcfsError as exc:
        click.echo(f"idcfs: {exc}", err=True)
        sys.exit(exc.exit_status)
    except (click.Abort, KeyboardInterrupt):
        click.echo("idcfs: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as exc:
        logging.getLogger(__name__).debug("the traceback", exc_info=True)
        click.echo(
            f"idcfs: unexpected {type(exc).__name__}: {exc}; this is a bug "
            "(--log-level debug shows the traceback)",
            err=True,
        )
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
