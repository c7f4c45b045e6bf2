"""What a prefetch of a selection asks for, given its template."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from idcfs.catalog.selection import SelectionSize
from idcfs.prefetch import selected
from idcfs.prefetch.job import PrefetchRequest
from idcfs.prefetch.selected import SelectedPrefetch
from idcfs.prefetch.targets import Verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.catalog.catalog import Catalog


class Nothing:
    """A catalog of no series."""

    def size(self, rows: object) -> SelectionSize:
        return SelectionSize(0, 0, 0)

    def series_paths(self, rows: object, template: object) -> Iterator[object]:
        return iter(())


@pytest.mark.parametrize(
    ("template", "into_cache", "processes"),
    [
        ("%collection_id", False, 3),
        ("", False, 1),
        (None, False, 1),
        ("all", False, 1),
        ("", True, 3),
    ],
)
def test_one_process_fills_one_directory(
    template: str | None,
    into_cache: bool,
    processes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[PrefetchRequest] = []
    monkeypatch.setattr(selected, "run_prefetch", lambda request, *_: asked.append(request))
    request = PrefetchRequest(
        tmp_path / "there", tmp_path / "cache", None, "aws", None, Verify.FULL, processes=3
    )
    if into_cache:
        request = replace(request, download_dir=None)
    job = SelectedPrefetch(cast("Catalog", Nothing()), [], template, request)
    job.run(lambda *_: None)
    assert [each.processes for each in asked] == [processes]
