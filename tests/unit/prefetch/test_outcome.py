"""How failures are put into one line."""

from __future__ import annotations

import pytest

from idcfs.prefetch.outcome import Failure


@pytest.mark.parametrize(
    ("subject", "reason", "line"),
    [
        ("/d/1.dcm", "cannot read s3://b/1.dcm: late", "/d/1.dcm: cannot read s3://b/1.dcm: late"),
        ("s3://b/1.dcm", "cannot read s3://b/1.dcm: late", "cannot read s3://b/1.dcm: late"),
        (
            "series u",
            "the store has no objects of series u",
            "the store has no objects of series u",
        ),
    ],
)
def test_a_line_names_its_subject_once(subject: str, reason: str, line: str) -> None:
    assert Failure(subject, reason).line == line
