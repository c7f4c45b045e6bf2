"""Every path, and every refusal of a template, is idc-index's own.

The reference is idc-index's code, run in an environment of its own over the whole index.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idcfs.catalog.index import Index
from idcfs.catalog.layouts import open_layout
from idcfs.catalog.template import accepted_by_idc_index, parse_template
from idcfs.errors import UsageError
from idcfs.model import DEFAULT_TEMPLATE, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idcfs.catalog.layout import Layout
    from idcfs.model import DirectoryId

SCRIPT = Path(__file__).with_name("reference_paths.py")
REPOSITORY = SCRIPT.parents[2]
SERIES_COUNT = 1_044_191
BATCH = 1 << 16

SHOWN = (
    DEFAULT_TEMPLATE,
    "_%Modality_/-%PatientID-/%SeriesInstanceUID_",
    "%Mod%collection_idality",
)
"""Those of `make test`: the default, separators at all ends, and a variable within a variable."""

TEMPLATES = (
    *SHOWN,
    "",
    "%Modality/%collection_id/%PatientID",
    "%collection_id-%PatientID",
    "%collection_id//%PatientID///%StudyInstanceUID",
    "/%PatientID/%SeriesInstanceUID/",
    "-/_/-_",
    "%SeriesInstanceUID",
    "%collection_id/%Modality-_-%StudyInstanceUID/--",
)


def reference_python() -> Path:
    """Return the Python of the environment that has idc-index."""
    python = Path(
        os.environ.get("IDCFS_REFERENCE_PYTHON", REPOSITORY / ".venv-reference/bin/python")
    )
    if not python.exists():
        pytest.fail(
            f"no reference environment at {python}: `make setup` makes it, or point "
            "IDCFS_REFERENCE_PYTHON at a Python that has idc-index 0.13.4"
        )
    return python


def ask(request: Mapping[str, object]) -> list[bool]:
    """Have the reference environment answer; which templates it accepts."""
    answer = subprocess.run(
        [reference_python(), SCRIPT],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    accepted: list[bool] = json.loads(answer.stdout)
    return accepted


@pytest.fixture(scope="module")
def index() -> Index:
    return Index.open()


@pytest.fixture
def reference(template: str, index: Index, tmp_path: Path) -> Path:
    """idc-index's path of every row under the template."""
    output = tmp_path / "paths.parquet"
    asked = {"templates": [template], "index": str(index.path), "output": str(output)}
    assert ask(asked) == [True]
    return output


def paths_by_row(layout: Layout) -> list[str | None]:
    """Walk the layout as a file system would; the directory of each row's series."""
    paths: list[str | None] = [None] * SERIES_COUNT
    pending: list[tuple[DirectoryId, str]] = [(ROOT, "")]
    while pending:
        directory, path = pending.pop()
        for series in layout.series(directory):
            assert paths[series.row] is None
            paths[series.row] = path
        pending += [(child, f"{path}/{name}") for name, child in layout.children(directory)]
    return paths


@pytest.mark.parametrize(
    "template",
    [pytest.param(t, marks=() if t in SHOWN else pytest.mark.slow) for t in TEMPLATES],
    ids=repr,
)
def test_every_series_has_the_path_idc_index_gives_it(
    template: str, index: Index, reference: Path, tmp_path: Path
) -> None:
    layout = open_layout(index, template, tmp_path)
    ours = paths_by_row(layout)
    layout.close()
    # Their paths keep doubled slashes and the one at the end, which a file system ignores.
    path = "substr(p0, length('ROOT') + 1)"
    for _ in range(2):
        path = f"replace({path}, '//', '/')"
    with duckdb.connect() as connection:
        theirs = connection.execute(
            f"SELECT rtrim({path}, '/') FROM read_parquet('{reference}') ORDER BY row"
        )
        for start in range(0, SERIES_COUNT, BATCH):
            batch = [path for (path,) in theirs.fetchmany(BATCH)]
            if batch != ours[start : start + BATCH]:  # a list of a million is no message
                pairs = zip(batch, ours[start : start + BATCH], strict=True)
                pytest.fail(str(next(pair for pair in pairs if pair[0] != pair[1])))
        assert not theirs.fetchmany(1)


GRAMMAR = st.lists(
    st.sampled_from(
        [
            "%PatientID", "%collection_id", "%Modality", "%StudyInstanceUID",
            "%SeriesInstanceUID", "%SeriesDescription", "PatientID", "%patientid", "%Patient",
            "%Mod", "ality", "%", "%%", "-", "_", "/", "//", "", " ", ".", "..", "'", "x", "\n",
            "\0", "é", "%ID", "%StudyInstance", "UID",
        ]
    ),
    max_size=8,
).map("".join)  # fmt: skip


def test_templates_are_refused_as_idc_index_refuses_them() -> None:
    templates: list[str] = [
        "%PatientId", "%", "%%PatientID", "%PatientID%", "PatientID", "%Modality.dcm", "a/b",
        "%PatientID/../%Modality", "%PatientIDX", "%Mod%PatientIDality", "%PatientID\\",
        "%Patient%ModalityID", "%Mod%PatientID%PatientIDality", "%Study%ModalityInstanceUID",
        "%collection%PatientID_id", "~", "%Modality ",
    ]  # fmt: skip

    @settings(max_examples=3000, deadline=None, database=None,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(st.one_of(GRAMMAR, st.text(max_size=12)))
    def collect(template: str) -> None:
        templates.append(template)

    collect()
    for template, theirs in zip(templates, ask({"templates": templates}), strict=True):
        assert accepted_by_idc_index(template) == theirs, template
        try:
            parse_template(template)
            ours = True
        except UsageError:
            ours = False
        assert ours == theirs, template
