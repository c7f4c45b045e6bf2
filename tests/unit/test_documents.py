"""The documents name tests, files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CHANGELOG.md", *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md"))]


def anchors(document: Path) -> set[str]:
    """Return the anchors that the headings of a document have, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text).strip().lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = REPOSITORY / name
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        other = document.parent / path if path else document
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def test_what_semantics_promises_is_held_by_tests() -> None:
    text = (REPOSITORY / "docs" / "semantics.md").read_text()
    claims = re.findall(r"`([\w/]+\.py)`:((?:\s+`test_\w+`,?)+)", text)
    named = [(path, test) for path, tests in claims for test in re.findall(r"test_\w+", tests)]
    assert len(named) == len(re.findall(r"`test_\w+`", text)), "each test stands behind its file"
    for path, test in named:
        assert f"def {test}(" in (REPOSITORY / "tests" / path).read_text(), f"{path}: {test}"
