"""What a selection came from, on the real index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.catalog.catalog import Catalog
from idcfs.catalog.citations import License, plain_text
from idcfs.catalog.selection import Selection
from idcfs.errors import IndexFileError

if TYPE_CHECKING:
    from tests.unit.catalog.conftest import WriteIndex

RIDER_DOIS = {"10.7937/m87f-mz83", "10.7937/tcia.2020.1c3h-vp70"}


def test_the_sources_of_a_collection_have_all_that_is_known_of_them(catalog: Catalog) -> None:
    rows = catalog.rows(Selection(collection_id=("rider_pilot",)))
    found = catalog.attribute(rows)
    assert {each.doi for each in found.sources} == RIDER_DOIS
    assert found.unattributed == ()
    size = catalog.size(rows)
    assert sum(each.series_count for each in found.sources) == size.series_count
    assert sum(each.size_bytes for each in found.sources) == size.size_bytes
    for each in found.sources:
        assert each.collections == ("rider_pilot",)
        assert each.url == f"https://doi.org/{each.doi}"
        assert each.citation is not None
        assert each.doi in each.citation.lower()
        assert not {"<", "&amp;", "\n"} & set(each.citation)
        assert all(known.url for known in each.licenses)


def test_every_source_of_the_whole_index_is_known(catalog: Catalog) -> None:
    found = catalog.attribute(catalog.rows(Selection()))
    assert found.unattributed == ()
    assert sum(each.series_count for each in found.sources) == 1_044_191
    incomplete = [
        each for each in found.sources if not (each.title and each.citation and each.licenses)
    ]
    assert incomplete == []
    kinds = [each.kind for each in found.sources]
    assert kinds == sorted(kinds, key=("original_data", "analysis_result").index)


def test_series_of_earlier_releases_have_the_source_of_their_successor(catalog: Catalog) -> None:
    query = catalog.query("""
        SELECT min_by((p.crdc_series_uuid, p.collection_id, i.source_DOI), p.crdc_series_uuid)
        FROM prior_versions_index p LEFT JOIN index i USING (SeriesInstanceUID)
        WHERE p.crdc_series_uuid IS DISTINCT FROM i.crdc_series_uuid
        GROUP BY i.source_DOI IS NULL ORDER BY i.source_DOI IS NULL
    """)
    (succeeded, _, doi), (ended, collection, _) = (each for (each,) in query.rows)
    found = catalog.attribute(catalog.rows(Selection(crdc_series_uuid=(succeeded, ended))))
    assert [(each.doi, each.series_count) for each in found.sources] == [(doi, 1)]
    (left,) = found.unattributed
    assert left.message().startswith(f"no DOI is known for 1 series of {collection}")


def test_an_index_without_sources_is_told_as_such(write_index: WriteIndex) -> None:
    with pytest.raises(IndexFileError, match="tells no sources: it has no source_DOI"):
        Catalog(write_index([{}])).attribute([0])


def test_markup_and_line_breaks_go() -> None:
    assert plain_text("A, B., &amp; C.\n(2016). <i>Lung\nCT</i> x < 3") == (
        "A, B., & C. (2016). Lung CT x < 3"
    )


def test_licences_are_named_as_the_index_names_them(catalog: Catalog) -> None:
    rows = catalog.rows(Selection(collection_id=("4d_lung",)))
    (source,) = catalog.attribute(rows).sources
    assert source.licenses == (
        License(
            "CC BY 3.0",
            "Creative Commons Attribution 3.0 Unported License",
            "https://creativecommons.org/licenses/by/3.0/",
        ),
    )
