"""Each source's citation: the DOI service's, or else the index's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.cite.doi import SERVICE_URL, Answers, ask
from idcfs.cite.formats import format_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idcfs.catalog.citations import Source


@dataclass(frozen=True, slots=True)
class Formatted:
    """Citations, and why some are less than they could be."""

    texts: list[str]
    """One for each source, in their order."""
    problems: list[str]
    """One line each."""


def format_citations(
    sources: Sequence[Source], style: str, *, service_url: str | None = None
) -> Formatted:
    """Return the citations of all sources as `apa`, `bibtex`, `json` (CSL) or `turtle`.

    The index has APA citations itself; for the other styles the DOI service is asked, for
    a minute at most. Raises UsageError for a service that is no http URL.
    """
    asked = [each.doi for each in sources if style != "apa" or each.citation is None]
    answers = ask(asked, style, service_url=service_url or SERVICE_URL) if asked else Answers()
    texts = [answers.texts.get(each.doi) or format_source(each, style) for each in sources]
    problems = [f"{doi}: {reason}" for doi, reason in answers.refusals.items()]
    if answers.unreachable is not None:
        problems.append(f"the DOI service cannot be reached: {answers.unreachable}")
    if problems:
        made = f"{len(asked) - len(answers.texts):,} of {len(sources):,}"
        problems.append(f"made of what the index says, without authors one by one: {made}")
    return Formatted(texts, problems)
