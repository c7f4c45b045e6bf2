"""Manifests as idc-index and s5cmd write them, and broken ones."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.catalog.manifest import parse_manifest, write_manifest
from idcfs.catalog.selection import Selection
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.catalog.catalog import Catalog

UUID = "085e85b3-3780-47f6-8538-585bcca95336"
PRIOR = "865d8361-5242-42b9-a7d3-a53178a868a8"
PRIOR_ROW = 1_044_191


@pytest.mark.parametrize(
    "line",
    [
        f"s3://idc-open-data/{UUID}/*",
        f"s3://idc-open-data/{UUID}/",
        f"s3://idc-open-data/{UUID}",
        f"S3://idc-open-data/{UUID.upper()}/*",
        f"cp s3://idc-open-data/{UUID}/* .",
        f"cp s3://idc-open-data/{UUID}/* ./a b/c",
        f'cp "s3://idc-open-data/{UUID}/*" "a \\"b\\""',
        f"sync 's3://idc-open-data/{UUID}/*' /data",
        f"cp --show-progress -n s3://idc-open-data/{UUID}/* .",
        f"  s3://idc-open-data/{UUID}/*\t\r",
        f"\ufeffs3://idc-open-data/{UUID}/*",
        f"# cp s3://idc-open-data/{PRIOR}/* .\n\n \ns3://public-datasets-idc/{UUID}/*",
    ],
)
def test_lines_that_are_entries(catalog: Catalog, line: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.s5cmd"
    path.write_bytes(line.encode())
    manifest = catalog.read_manifest(path)
    assert (manifest.rows, manifest.problems) == ([0], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello", "expected s3://"),
        ("rm s3://idc-open-data/x/*", "expected s3://"),
        (f"https://idc-open-data/{UUID}", "expected s3://"),
        (f"s3://idc-open-data/{UUID}/a.dcm", "expected s3://"),
        (f"s3://idc-open-data/{UUID}/../x/*", "expected s3://"),
        (f"cp 's3://idc-open-data/{UUID}/* .", "expected s3://"),
        (f"cp s3://idc-open-data/{UUID[:-1]}/* .", "is not the UUID of a series"),
        ("s3://idc-open-data/../*", "is not the UUID of a series"),
        (f"s3://elsewhere/{UUID}/*", "'elsewhere' is not a bucket of IDC"),
        (f"s3://idc-open-data-cr/{UUID}/*", "is in the bucket 'idc-open-data', not in"),
        (f"s3://idc-open-idc1/{UUID}/*", "not in 'idc-open-data-two'"),
        (f"s3://idc-open-data/{UUID[:-1]}0/*", "no such series in IDC v25 or any release before"),
    ],
)  # fmt: skip
def test_a_broken_line_is_told_and_the_others_count(
    catalog: Catalog, line: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.txt"
    path.write_text(f"# mine\ns3://idc-open-idc1/{PRIOR}/*\n{line}\ns3://idc-open-data/{UUID}/*\n")
    manifest = catalog.read_manifest(path)
    assert manifest.rows == [0, PRIOR_ROW]
    ((problem),) = manifest.problems
    assert problem.line == 3
    assert reason in problem.reason
    assert "\n" not in problem.text + problem.reason


def test_what_is_written_is_read_back(catalog: Catalog, tmp_path: Path) -> None:
    rows = [*catalog.rows(Selection(collection_id=("rider_pilot",))), PRIOR_ROW]
    path = tmp_path / "manifest"
    series = (each for each, _ in catalog.series_paths(rows, ""))
    path.write_text("".join(write_manifest(series)) * 2)
    assert f"s3://idc-open-data-two/{PRIOR}/*\n" in path.read_text()
    manifest = catalog.read_manifest(path)
    assert (manifest.rows, manifest.problems) == (rows, [])


def test_files_that_are_none(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the manifest .*: No such file"):
        catalog.read_manifest(tmp_path / "none")
    with pytest.raises(UsageError, match="Is a directory"):
        catalog.read_manifest(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x80" * 100)
    with pytest.raises(UsageError, match="is not a manifest: it is not text"):
        catalog.read_manifest(tmp_path / "binary")
    (tmp_path / "empty").touch()
    assert catalog.read_manifest(tmp_path / "empty").rows == []


@given(st.lists(st.one_of(st.text(), st.just(f"cp s3://idc-open-data/{UUID}/* x"))))
def test_any_text_is_entries_or_problems(lines: list[str]) -> None:
    text = "\n".join(line.replace("\n", " ") for line in lines).encode(errors="surrogatepass")
    try:
        entries, problems = parse_manifest(io.BytesIO(text))
    except UnicodeDecodeError:
        return
    meant = [n for n, line in enumerate(text.decode().removeprefix("\ufeff").split("\n"), 1)
             if line.strip() and not line.strip().startswith("#")]  # fmt: skip
    assert sorted([*entries.lines, *(problem.line for problem in problems)]) == meant
