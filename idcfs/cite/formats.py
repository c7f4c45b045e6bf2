"""Citations in the formats of reference managers, made of what the index says.

Less than the DOI service gives, for there are no authors one by one: these stand in
where there is no network.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.catalog.citations import Source

_YEAR = re.compile(r"\((\d{4})\)")
_BIBTEX_SPECIAL = re.compile(r"([\\{}&%$#_~^])")


def format_source(source: Source, style: str) -> str:
    """Return the citation as `apa`, `bibtex`, `json` (CSL) or `turtle`."""
    return {"apa": _apa, "bibtex": _bibtex, "json": _csl, "turtle": _turtle}[style](source)


def _apa(source: Source) -> str:
    return source.citation or f"{source.title or source.doi}. {source.url}"


def _bibtex(source: Source) -> str:
    fields = {
        "title": source.title,
        "year": _year(source),
        "doi": source.doi,
        "url": source.url,
        "note": source.citation,
    }
    verbatim = ("doi", "url")
    lines = [
        f"  {name} = {{{text if name in verbatim else _escaped(text)}}}"
        for name, text in fields.items()
        if text
    ]
    key = re.sub(r"[^A-Za-z0-9./-]", "_", source.doi)
    return f"@misc{{{key},\n" + ",\n".join(lines) + "\n}"


def _escaped(text: str) -> str:
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return _BIBTEX_SPECIAL.sub(lambda found: names.get(found[1], "\\" + found[1]), text)


def _csl(source: Source) -> str:
    year = _year(source)
    fields = {
        "id": source.doi,
        "type": "article-journal" if source.kind == "publication" else "dataset",
        "title": source.title,
        "DOI": source.doi,
        "URL": source.url,
        "issued": {"date-parts": [[int(year)]]} if year else None,
        "note": source.citation,
    }
    return json.dumps({name: value for name, value in fields.items() if value})


def _turtle(source: Source) -> str:
    # The escapes of JSON are those of Turtle.
    said = {"title": source.title, "identifier": source.doi, "issued": _year(source)}
    said["bibliographicCitation"] = source.citation
    parts = [
        f"<http://purl.org/dc/terms/{name}> {json.dumps(text)}"
        for name, text in said.items()
        if text
    ]
    subject = re.sub(r'[<>"{}|^`\\\s]', "_", source.url)
    return f"<{subject}>\n    " + " ;\n    ".join(parts) + " ."


def _year(source: Source) -> str | None:
    found = _YEAR.search(source.citation or "")
    return found[1] if found else None
