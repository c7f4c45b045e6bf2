"""Ask idc-index for its paths. Run with the reference environment's Python.

Reads a request, JSON, from standard input. `templates`: which of them idc-index
accepts. With `index` and `output` too: the path of every row under each template it
accepts, written as Parquet with the columns `row`, `p0`, `p1` …
"""

from __future__ import annotations

import json
import logging
import sys


def main() -> None:
    import duckdb
    from idc_index.index import IDCClient  # type: ignore[import-not-found]  # not installed here

    logging.disable(logging.CRITICAL)  # it logs every template it refuses
    request = json.load(sys.stdin)
    expressions: list[str | None] = []
    for template in request["templates"]:
        try:
            expressions.append(
                IDCClient._generate_sql_concat_for_building_directory(template, "ROOT")
            )
        except ValueError:
            expressions.append(None)
    if "output" in request:
        paths = ", ".join(f"{sql} AS p{at}" for at, sql in enumerate(expressions))
        duckdb.connect().execute(
            f"COPY (SELECT file_row_number AS row, {paths} FROM "
            f"read_parquet('{request['index']}', file_row_number = true)) "
            f"TO '{request['output']}' (FORMAT parquet)"
        )
    json.dump([sql is not None for sql in expressions], sys.stdout)


main()
