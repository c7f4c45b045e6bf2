"""Ask idc-index what it would do. Run with the reference environment's Python.

Reads a list of calls, JSON, from standard input: each a method of `IDCClient` and its
arguments. Writes what each returned or, where it would have run s5cmd, the lines that
s5cmd was to run; where it would have asked the DOI service, the URLs; where it raised, the
exception's name. The call `select` gives what a download picks, and its bytes.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


FILTERS = (
    "collection_id",
    "patientId",
    "studyInstanceUID",
    "seriesInstanceUID",
    "sopInstanceUID",
    "crdc_series_uuid",
)


def main() -> None:
    import idc_index.index  # type: ignore[import-not-found]  # not installed here

    logging.disable(logging.CRITICAL)
    client = idc_index.index.IDCClient()
    told: list[Any] = []

    def s5cmd_run(manifest_file: Path, **arguments: object) -> None:
        told.extend(manifest_file.read_text().splitlines())

    def get(url: str, **arguments: object) -> Any:  # noqa: ANN401  # a response
        told.append(url)
        return type("Response", (), {"status_code": 404})

    def select(**arguments: Any) -> tuple[list[str], int]:  # noqa: ANN401  # JSON
        results = {"analysis_result_id": arguments.pop("analysis_result_id", None)}
        which = arguments.pop("analysis_results", "include")
        filters = dict.fromkeys(FILTERS) | arguments
        found = client._safe_filter_by_selection(client.index, **filters)
        found = client.index if found is None else found
        found = client._filter_by_analysis_results(found, analysis_results=which, **results)
        sizes = (found["series_size_MB"] * 10**6).round().astype("int64")
        return found["crdc_series_uuid"].tolist(), int(sizes.sum())

    client.select = select
    client._s5cmd_run = s5cmd_run
    client._validate_disk_space = lambda *arguments: None
    idc_index.index.requests.get = get
    answers: list[Any] = []
    for method, arguments in json.load(sys.stdin):
        told.clear()
        if method.startswith("download"):
            arguments["downloadDir"] = tempfile.mkdtemp(dir=sys.argv[1])
        try:
            returned = getattr(client, method)(**arguments)
        except (ValueError, KeyError) as exc:
            answers.append(f"raised {type(exc).__name__}")
            continue
        if hasattr(returned, "to_dict"):
            returned = returned.to_dict("split")["data"]
        answers.append(list(told) or returned)
    json.dump(answers, sys.stdout)


main()
