"""From a directory template and a series' values to names that are safe to show.

A template is idc-index's `dirTemplate`: `%Column` variables, `-`, `_`, and `/`
between directories. What idc-index accepts means here what it means there;
beyond it, any column of the index may be a variable. The names are computed in
SQL only, so there is one implementation to test.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.catalog.engine import CORE_COLUMNS, quote, quote_name
from idcfs.errors import UsageError
from idcfs.model import NAME_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH = 32
"""Levels of directories. More makes paths beyond PATH_MAX (4,096 bytes) likely."""

NULL_NAME = "_none_"
EMPTY_NAME = "_empty_"

# What is left of a name beside `~` and 16 hex digits.
_CLEAN_BYTES = NAME_LIMIT_BYTES - 17
# So many characters fit whatever their length in UTF-8.
_CLEAN_CHARACTERS = _CLEAN_BYTES // 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a directory's name: the value of a column, or text as it stands."""

    text: str
    is_column: bool


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: for each level of directories the pieces of its names."""

    text: str
    components: tuple[tuple[Piece, ...], ...]

    @property
    def depth(self) -> int:
        """The number of directory levels beneath the root; 0 is flat."""
        return len(self.components)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it uses, each once."""
        pieces = (piece for component in self.components for piece in component)
        return tuple(dict.fromkeys(piece.text for piece in pieces if piece.is_column))


def parse_template(text: str | None, columns: Sequence[str] = CORE_COLUMNS) -> Template:
    """Parse a template over an index with these columns; None and "" are flat.

    Slashes at the ends and doubled ones mean nothing, as in a path. Raises UsageError
    for an unknown variable, for text other than `-`, `_` and `/`, and beyond 32 levels.
    """
    text = text or ""
    pieces = _split_as_idc_index(text) if accepted_by_idc_index(text) else _split(text, columns)
    components: list[tuple[Piece, ...]] = []
    current: list[Piece] = []
    for piece in [*pieces, Piece("/", is_column=False)]:
        if piece.is_column:
            current.append(piece)
            continue
        head, *rest = piece.text.split("/")
        if head:
            current.append(Piece(head, is_column=False))
        for part in rest:
            if current:
                components.append(tuple(current))
            current = [Piece(part, is_column=False)] if part else []
    if len(components) > MAX_DEPTH:
        raise UsageError(
            f"the template has {len(components)} levels of directories; at most {MAX_DEPTH} work"
        )
    return Template(text, tuple(components))


def accepted_by_idc_index(text: str) -> bool:
    """Tell whether idc-index 0.13 takes this template.

    It deletes its five variables, one after the other, then the separators, and wants
    nothing left. So `%Mod%PatientIDality` passes, with `%Mod` and `ality` as plain text.
    """
    for column in CORE_COLUMNS:
        text = text.replace(f"%{column}", "")
    return not text.strip("_-/")


def _split_as_idc_index(text: str) -> list[Piece]:
    variables = re.compile("%(" + "|".join(CORE_COLUMNS) + ")")
    parts = variables.split(text)
    return [Piece(part, bool(at % 2)) for at, part in enumerate(parts) if part]


def _split(text: str, columns: Sequence[str]) -> list[Piece]:
    longest_first = sorted(columns, key=len, reverse=True)
    pieces: list[Piece] = []
    at = 0
    while at < len(text):
        if text[at] == "%":
            column = next((c for c in longest_first if text.startswith(c, at + 1)), None)
            if column is None:
                raise _unknown_variable(text, at, columns)
            pieces.append(Piece(column, is_column=True))
            at += 1 + len(column)
        elif text[at] in "-_/":
            pieces.append(Piece(text[at], is_column=False))
            at += 1
        else:
            raise _illegal_text(text, at, columns)
    return pieces


def _unknown_variable(text: str, at: int, columns: Sequence[str]) -> UsageError:
    name = re.match(r"\w*", text[at + 1 :])
    variable = name.group() if name else ""
    nearest = _nearest(variable, columns)
    advice = f"; nearest: {', '.join('%' + n for n in nearest)}" if nearest else ""
    return UsageError(f"the template has an unknown variable %{variable}{advice}")


def _illegal_text(text: str, at: int, columns: Sequence[str]) -> UsageError:
    found = re.match(r"[^-_/%]+", text[at:])
    literal = found.group() if found else text[at]
    nearest = _nearest(literal, columns)
    advice = f"; did you mean {' or '.join('%' + n for n in nearest)}?" if nearest else ""
    return UsageError(
        f"the template has {literal!r}: between variables only '-', '_' and '/' are allowed{advice}"
    )


def _nearest(name: str, columns: Sequence[str]) -> list[str]:
    by_fold = {column.casefold(): column for column in columns}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=3, cutoff=0.5)
    return [by_fold[fold] for fold in close]


def names_sql(template: Template, source: str, extra: Sequence[str] = ()) -> str:
    """Return an SQL query for the directory names `c1`, `c2` … of each row, from the root down.

    `source` is a query that has the template's columns and those of `extra`, which the
    result has too.

    A name is the text idc-index would write if that is a valid file name and cannot be
    mistaken for an escaped one. NULL becomes `_none_` and an empty value `_empty_`. Otherwise
    it is the text with `/` and NUL replaced by `_`, cut to fit, then `~` and 16 hex digits
    of the SHA-256 of the values: different values never share a name unseen.
    """
    values = {column: f"v{at}" for at, column in enumerate(template.columns, 1)}
    inner = [f"CAST({quote_name(column)} AS VARCHAR) AS {v}" for column, v in values.items()]
    shown = [f"{_shown(v)} AS s{v}" for v in values.values()]
    texts = [
        " || ".join(f"s{values[p.text]}" if p.is_column else quote(p.text) for p in pieces)
        + f" AS t{level}"
        for level, pieces in enumerate(template.components, 1)
    ]
    names = []
    for level, pieces in enumerate(template.components, 1):
        used = [values[piece.text] for piece in pieces if piece.is_column]
        # `-` and `_` alone are valid, and cannot look like an escaped name.
        name = _safe(f"t{level}", used) if used else f"t{level}"
        names.append(f"{name} AS c{level}")
    # A query within a query, so that DuckDB computes each text once.
    kept = list(map(quote_name, extra))
    return (
        f"SELECT {', '.join([*names, *kept]) or '1'} FROM ("
        f"SELECT {', '.join([*texts, *values.values(), *kept]) or '1'} FROM ("
        f"SELECT {', '.join([*values.values(), *shown, *kept]) or '1'} FROM ("
        f"SELECT {', '.join([*inner, *kept]) or '1'} FROM ({source}))))"
    )


def _shown(value: str) -> str:
    return (
        f"CASE WHEN {value} = '' THEN {quote(EMPTY_NAME)} "
        f"ELSE coalesce({value}, {quote(NULL_NAME)}) END"
    )


def _safe(text: str, values: Sequence[str]) -> str:
    """Return SQL for `text`, or what stands for it if it is no name or could mislead."""
    mistakable = " OR ".join(
        f"coalesce({value} IN ({quote(NULL_NAME)}, {quote(EMPTY_NAME)}), false)" for value in values
    )
    return (
        f"CASE WHEN contains({text}, '/') OR contains({text}, chr(0)) "
        f"OR {text} IN ('.', '..') OR strlen({text}) > {NAME_LIMIT_BYTES} "
        f"OR (contains({text}, '~') AND regexp_matches({text}, '~[0-9a-f]{{16}}$')) "
        f"OR {mistakable} "
        f"THEN {_cleaned(text)} || '~' || left(sha256({_encoded(values)}), 16) "
        f"ELSE {text} END"
    )


def _cleaned(text: str) -> str:
    clean = f"replace(replace({text}, '/', '_'), chr(0), '_')"
    # "." and ".." with a suffix would be valid names, but hidden ones.
    visible = f"CASE WHEN {text} IN ('.', '..') THEN repeat('_', length({text})) ELSE {clean} END"
    cut = f"left({visible}, {_CLEAN_BYTES})"
    return (
        f"CASE WHEN strlen({cut}) <= {_CLEAN_BYTES} THEN {cut} "
        f"ELSE left({visible}, {_CLEAN_CHARACTERS}) END"
    )


def _encoded(values: Sequence[str]) -> str:
    """Return SQL for a text that only these values give: each with its length, or N for NULL."""
    return " || ".join(f"coalesce(strlen({v}) || ':' || {v}, 'N')" for v in values)
