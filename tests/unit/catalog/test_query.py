"""A user's SQL: answered, and kept away from files, the network and settings."""

from __future__ import annotations

import gc
import hashlib
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.catalog.engine import connect_locked
from idcfs.catalog.selection import Selection
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.catalog.catalog import Catalog


def ask(catalog: Catalog, sql: str) -> list[tuple[object, ...]]:
    return list(catalog.query(sql).rows)


@pytest.mark.parametrize(
    ("sql", "columns", "rows"),
    [
        ("select count(*) as n from index", ("n",), [(1_044_191,)]),
        ("SELECT count(*) FROM idc_index; ", ("count_star()",), [(1_044_191,)]),
        ("from prior_versions_index select count(*) n", ("n",), [(82_428,)]),
        ("with c as (from collections_index) select count(*) as n from c", ("n",), [(179,)]),
        ("select count(*) as n from analysis_results_index", ("n",), [(26,)]),
        ("select max(idc_version) as v from version_metadata_index", ("v",), [(25,)]),
        ("select Modality from index where false", ("Modality",), []),
        ("/* one */ select 1 as x -- two", ("x",), [(1,)]),
    ],
)  # fmt: skip
def test_answers(
    catalog: Catalog, sql: str, columns: tuple[str, ...], rows: list[tuple[int, ...]]
) -> None:
    result = catalog.query(sql)
    assert result.columns == columns
    assert list(result.rows) == rows


def test_columns_of_one_name_are_numbered(catalog: Catalog) -> None:
    result = catalog.query("select 1 as x, 2 as x, 3 as x_2, 4 as x, 5 as y")
    assert result.columns == ("x", "x_3", "x_2", "x_4", "y")
    assert list(result.rows) == [(1, 2, 3, 4, 5)]


@pytest.mark.parametrize("end", ["", ";", " -- ä;", "/* ä; */; -- end", "; /* end; */ ;"])
def test_times_with_a_zone_are_text_in_utc(catalog: Catalog, end: str) -> None:
    time = "timestamptz '2020-01-01 00:30:00+02'"
    result = catalog.query(
        f"select range as n, {time} as t, [{time}] as t, {{'a': {time}, 'b': 1}} as s "
        f"from range(3) order by n desc{end}"
    )
    assert result.columns == ("n", "t", "t_2", "s")
    text = "2019-12-31 22:30:00+00"
    assert list(result.rows) == [(n, text, [text], {"a": text, "b": 1}) for n in (2, 1, 0)]


def test_a_large_answer_streams(catalog: Catalog) -> None:
    result = catalog.query("select crdc_series_uuid from index order by 1")
    assert len(next(result.rows)[0]) == 36
    assert sum(1 for _ in result.rows) == 1_044_190


HOSTILE = [
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/proc/self/environ')",
    "select * from read_parquet('{elsewhere}')",
    "select * from parquet_metadata('/etc/passwd')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from glob('/etc/*')",
    "select * from '/etc/passwd'",
    "select * from query_table('/etc/passwd')",
    "select * from query('select * from read_text(''/etc/passwd'')')",
    "select * from 'https://example.org/x.parquet'",
    "select * from read_json('http://127.0.0.1:1/x')",
    "copy (select 1) to '{elsewhere}'",
    "copy index to '{elsewhere}' (format parquet)",
    "with t as (copy (select 1) to '{elsewhere}' (use_tmp_file false)) select * from t",
    "explain analyze copy (select 1) to '{elsewhere}'",
    "export database '{elsewhere}'",
    "attach '{elsewhere}' as x",
    "install httpfs",
    "load httpfs",
    "load '{elsewhere}'",
    "set enable_external_access = true",
    "set memory_limit = '90GB'",
    "reset lock_configuration",
    "pragma database_list; select 1",
    "call pragma_version()",
    "create table t as select 1",
    "create or replace view index as select 1",
    "drop view index",
    "delete from index",
    "use memory",
    "prepare p as select 1",
    "set variable x = 1",
    "select 1; select 2",
    "select 1; copy (select 1) to '{elsewhere}'",
    "pivot index on Modality using count(*)",
    "select getenv('HOME')",
    "select * from duckdb_secrets()",
    "select * from HOSTILE",
    "",
    ";",
    "-- nothing",
    "selec 1",
    "select '",
    "\0",
    "\ud800",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_nothing_else_is_within_reach(catalog: Catalog, sql: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(UsageError) as caught:
        ask(catalog, sql.format(elsewhere=elsewhere))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{path}' (USE_TMP_FILE false)",
        "COPY (SELECT 1) TO '{path}' (FORMAT csv, USE_TMP_FILE false)",
        "COPY (SELECT 1) TO '{path}' (FORMAT csv, OVERWRITE true)",
        "COPY (SELECT 1) TO '{path}'",
        "WITH t AS (COPY (SELECT 1) TO '{path}' (USE_TMP_FILE false)) SELECT * FROM t",
        "ATTACH '{path}' AS x; CREATE TABLE x.t AS SELECT 1",
        "EXPORT DATABASE '{path}'",
    ],
)
def test_the_tables_own_files_cannot_be_written(catalog: Catalog, sql: str) -> None:
    # Beneath the check of statements: what a WITH clause smuggles past it fails here.
    import duckdb

    before = hashlib.sha256(catalog.index.path.read_bytes()).digest()
    with connect_locked(catalog.index) as connection:
        (view,) = connection.execute(
            "SELECT sql FROM duckdb_views() WHERE view_name = 'idc_index'"
        ).fetchall()
        path = view[0].split("'")[1]
        assert path.startswith("/proc/self/fd/")
        with pytest.raises(duckdb.Error):
            connection.execute(sql.format(path=path)).fetchall()
        (count,) = connection.execute("SELECT count(*) FROM idc_index").fetchall()
        assert count == (1_044_191,)
    assert hashlib.sha256(catalog.index.path.read_bytes()).digest() == before


def test_memory_is_bounded(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match=r"(?i)memory|failed to allocate"):
        ask(catalog, "select length(string_agg(repeat('x', 1000000), '')) from range(10000)")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select PatientI from index", 'Candidate bindings: "PatientID"'),
        ("select * from indx", 'Did you mean "index"'),
        ("select * from nosuch", "Table with name nosuch does not exist!$"),
        ("", "the query is empty"),
        (" -- nothing", "the query is empty"),
        ("select cout(*) from index", 'Did you mean "count"'),
        ("insert into index values (1)", "must be a single SELECT statement; this is INSERT"),
        ("select [1, 2][1]::INT / 0 = error('no')", "the query failed: "),
    ],
)
def test_messages_help(catalog: Catalog, sql: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ask(catalog, sql)
    assert "\n" not in str(caught.value)


ENDLESS = "(select count(*) from range(100000000000))"


@pytest.mark.parametrize(
    "asked",
    [
        lambda catalog: ask(catalog, f"select {ENDLESS}"),
        lambda catalog: catalog.rows(Selection(where=f"{ENDLESS} > 0")),
    ],
    ids=["query", "where"],
)
def test_an_interruption_ends_it_at_once_and_is_no_mistake(
    catalog: Catalog, asked: Callable[[Catalog], object]
) -> None:
    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2.0)  # by then the tables are open
        with pytest.raises(KeyboardInterrupt):
            asked(catalog)
        assert time.monotonic() - began < 5.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_closing_an_answer_early_closes_its_files(catalog: Catalog) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()  # or what earlier tests left is closed in the middle of this one
    before = open_files()
    result = catalog.query("select * from index")
    next(result.rows)
    assert open_files() > before
    result.close()
    assert open_files() == before


def test_counting_is_quick(catalog: Catalog) -> None:
    started = time.perf_counter()
    ask(catalog, "select count(*) from index")
    # 0.08 s on an idle machine; through pandas it would be 10.
    assert time.perf_counter() - started < 3
