"""Several questions to one database, and none to the tables that need not be asked."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest

from idcfs.catalog import engine
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.index import Index
from idcfs.catalog.kept_open import KeptOpen
from idcfs.catalog.layouts import child_command
from idcfs.catalog.selection import Selection
from idcfs.errors import IndexFileError, UsageError
from idcfs.model import DEFAULT_TEMPLATE, SeriesUUID
from tests.unit.catalog.conftest import damage_pages, series_uuid, write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOWHERE = "ffffffff-ffff-4fff-8fff-ffffffffffff"
EARLIER = 7
"""The number of the UUID of the one series that is of an earlier release."""


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index of five series, with one more in the table of earlier releases."""
    main, prior = tmp_path / "index.parquet", tmp_path / "prior_versions_index.parquet"
    write_parquet(main, [{"SeriesInstanceUID": f"1.2.{number}"} for number in range(5)])
    write_parquet(prior, [{"SeriesInstanceUID": f"1.2.{number}"} for number in range(EARLIER + 1)])
    return Index(main, {"prior_versions_index": prior}, "some@1")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[duckdb.DuckDBPyConnection]:
    """The databases that have been opened."""
    connections = list[duckdb.DuckDBPyConnection]()
    open_one = engine._open

    def note() -> duckdb.DuckDBPyConnection:
        connections.append(open_one())
        return connections[-1]

    monkeypatch.setattr(engine, "_open", note)
    return connections


def write_manifest(path: Path, *uuids: str) -> Path:
    path.write_text("".join(f"s3://idc-open-data/{uuid}/*\n" for uuid in uuids))
    return path


def ask_everything(catalog: Catalog, manifest: Path) -> list[object]:
    """Ask whatever the room's own SQL answers."""
    rows = catalog.rows(Selection(collection_id=("c",)))
    return [
        rows,
        catalog.columns(),
        catalog.match(Selection(crdc_series_uuid=(series_uuid(1), series_uuid(EARLIER), NOWHERE))),
        catalog.size(rows),
        catalog.uuids(rows),
        catalog.resolve_identifiers(["p", "1.2.3", "nothing"]),
        catalog.read_manifest(manifest),
        catalog.read_manifest(manifest),
        list(catalog.series_paths(rows, DEFAULT_TEMPLATE)),
        list(catalog.series_paths(None, "%SeriesDescription")),
        catalog.collections_of([SeriesUUID(series_uuid(EARLIER))]),
        catalog.has_earlier(rows),
    ]


def test_a_database_that_is_kept_open_gives_the_same_answers(
    index: Index, tmp_path: Path, opened: list[duckdb.DuckDBPyConnection]
) -> None:
    manifest = write_manifest(tmp_path / "m", series_uuid(3), series_uuid(EARLIER), NOWHERE)
    catalog = Catalog(index)
    with catalog.kept_open() as kept:
        answers = ask_everything(kept, manifest)
    assert len(opened) == 1
    assert answers == ask_everything(catalog, manifest)
    assert len(opened) > 10


def test_it_is_opened_for_the_first_question_and_closed_with_the_last(
    index: Index, opened: list[duckdb.DuckDBPyConnection]
) -> None:
    with Catalog(index).kept_open() as kept:
        assert not opened
        assert len(kept.rows(Selection())) == 5
    with pytest.raises(duckdb.ConnectionException):
        opened[0].execute("SELECT 1")
    assert len(kept.rows(Selection())) == 5  # as any catalog does
    assert len(opened) == 2
    pickle.dumps(kept)


def test_an_error_closes_it_and_leaves_as_it_is(
    index: Index, opened: list[duckdb.DuckDBPyConnection]
) -> None:
    with pytest.raises(UsageError, match="no collection"), Catalog(index).kept_open() as kept:
        kept.rows(Selection(collection_id=("nothing",)))
    with pytest.raises(duckdb.ConnectionException):
        opened[0].execute("SELECT 1")


def test_each_connection_has_the_settings_of_the_first(index: Index) -> None:
    settings = "SELECT name, value FROM duckdb_settings() ORDER BY name"
    with KeptOpen(index) as kept, kept.connect() as connection:
        found = connection.execute(settings).fetchall()
    with engine.connect(index) as connection:
        assert found == connection.execute(settings).fetchall()


def test_an_index_goes_to_another_process_meanwhile(index: Index) -> None:
    with Catalog(index).kept_open() as kept:
        kept.rows(Selection())
        assert pickle.loads(pickle.dumps(kept.index)) == index


def test_a_process_that_kept_one_open_ends_without_a_word(index: Index) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from idcfs.catalog.catalog import Catalog; from idcfs.catalog.selection import Selection\n"
        "with Catalog.open(Path(sys.argv[1])).kept_open() as kept:\n"
        "    kept.rows(Selection()); paths = kept.series_paths(None, ''); next(paths)\n"
        "    sys.exit(7)\n"
    )
    _, environment = child_command("idcfs")
    command = [sys.executable, "-X", "dev", "-c", program, str(index.path)]
    ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"", b"")


def ask_manifest(catalog: Catalog, directory: Path, *uuids: str) -> list[int]:
    return catalog.read_manifest(write_manifest(directory / "m", *uuids)).rows


def ask_uuids(catalog: Catalog, _: Path, *uuids: str) -> list[int]:
    return catalog.find(Selection(crdc_series_uuid=uuids))


def ask_identifiers(catalog: Catalog, _: Path, *uuids: str) -> list[int]:
    return catalog.resolve_identifiers(uuids)[0]


@pytest.mark.parametrize("ask", [ask_manifest, ask_uuids, ask_identifiers])
def test_earlier_releases_are_looked_at_for_what_the_index_has_not(
    ask: Callable[..., list[int]], index: Index, tmp_path: Path
) -> None:
    catalog = Catalog(index)
    assert ask(catalog, tmp_path, series_uuid(2), series_uuid(EARLIER)) == [2, 5 + EARLIER]
    damage_pages(index.companions["prior_versions_index"])  # whoever reads it fails
    assert ask(catalog, tmp_path, series_uuid(2), series_uuid(4)) == [2, 4]
    with pytest.raises(IndexFileError):
        ask(catalog, tmp_path, series_uuid(2), series_uuid(EARLIER))
