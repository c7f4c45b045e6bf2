"""`--view`: several trees side by side under one mount."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idcfs.errors import UsageError
from idcfs.model import NAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from idcfs.cli.options import Selected

_MAX_VIEWS = 1000

_HIDDEN = ".idcfs"
"""The directory in which a mount tells of itself."""

_SPECIFICATION = re.compile(
    r"(?P<template>[^@?]*)(?:@(?P<manifest>.*)|\?(?P<where>.*))?", re.DOTALL
)
"""Neither `@` nor `?` can stand in a template."""


@dataclass(frozen=True, slots=True)
class ViewOption:
    """What one `--view` said."""

    name: str
    template: str | None
    """None for that of `--dir-template`."""
    manifest: Path | None = None
    where: str | None = None

    def narrow(self, selected: Selected) -> Selected:
        """Return what this view selects of what the mount does."""
        if self.where is None:
            return selected
        selection = selected.selection
        both = f"({selection.where}) AND ({self.where})" if selection.where else self.where
        return replace(selected, selection=replace(selection, where=both))


class _ViewType(click.types.StringParamType):
    """`NAME=[TEMPLATE][@MANIFEST|?CONDITION]`."""

    name = "view"
    envvar_list_splitter = ";"  # by default at blanks, which conditions hold

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        try:
            parse_view(text)
        except UsageError as exc:
            self.fail(str(exc), param, ctx)
        return text


def view_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--view`; the command gets the texts as `views`."""
    return click.option(
        "--view",
        "views",
        multiple=True,
        type=_ViewType(),
        metavar="NAME=[TEMPLATE][@FILE|?SQL]",
        help="Show a tree of its own in the directory NAME: under TEMPLATE, or else"
        " --dir-template, and only what a manifest lists or a condition picks. Repeat for more.",
    )(command)


def parse_views(texts: Sequence[str]) -> list[ViewOption]:
    """Return what all `--view` say together. Raises UsageError if two have one name."""
    views = [parse_view(text) for text in texts]
    names = [view.name for view in views]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two views are called {name!r}; give each a name of its own")
    if len(views) > _MAX_VIEWS:
        raise UsageError(f"there are {len(views):,} views; at most {_MAX_VIEWS:,} work")
    return views


def parse_view(text: str) -> ViewOption:
    """Take a view's text apart. Raises UsageError, which says what is wrong with it."""
    name, equals, rest = text.partition("=")
    if not equals:
        raise UsageError(
            f"the view {text!r} has no name: say NAME=TEMPLATE, for example "
            "by-modality=%Modality/%collection_id/%PatientID"
        )
    _check_name(name)
    found = _SPECIFICATION.fullmatch(rest)
    assert found is not None  # it matches any text
    manifest, where = found["manifest"], found["where"]
    for part, mark in ((manifest, "@"), (where, "?")):
        if part is not None and not part.strip():
            raise UsageError(f"view {name!r}: nothing stands behind the {mark!r}")
    return ViewOption(
        name,
        found["template"] or None,
        Path(manifest).expanduser() if manifest is not None else None,
        where,
    )


def _check_name(name: str) -> None:
    if name == _HIDDEN:
        raise UsageError(f"a view cannot be called {_HIDDEN}: there the mount tells of itself")
    printable = name.isprintable() and not any(0xD800 <= ord(letter) < 0xE000 for letter in name)
    if not name or name in {".", ".."} or "/" in name or not printable:
        raise UsageError(f"a view cannot be called {name!r}: that is no name of a directory")
    if len(os.fsencode(name)) > NAME_LIMIT_BYTES:
        raise UsageError(
            f"the name of a view is longer than {NAME_LIMIT_BYTES} bytes: {name[:40]!r}…"
        )
