"""Tables that idc-index-data does not bring: listed, fetched, asked, and single files by them."""

from __future__ import annotations

import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import duckdb
import pytest

import idcfs
from idcfs.catalog.index import Index
from idcfs.errors import IdcfsError, UsageError
from idcfs.store.protocol import StoredObject
from idcfs.tables.fetch import fetch_clinical, fetch_table
from tests.support.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.replica import ServedReplica


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data/idcfs/tables"


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A place where tables are released, and the directory that it serves."""
    root = tmp_path / "releases"
    (root / Index.open().version).mkdir(parents=True)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]  # as it comes

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", root / Index.open().version
        server.shutdown()
        thread.join()


def write(path: Path, sql: str) -> bytes:
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path.read_bytes()


def test_a_table_is_fetched_once_and_asked_with_the_others(
    releases: tuple[str, Path], home: Path
) -> None:
    url, directory = releases
    index = Index.open()
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.314917368146772872954571551463"
    write(directory / "ct_index.parquet", f"SELECT '{uid}' AS SeriesInstanceUID, 0.7 AS thickness")
    with pytest.raises(UsageError, match="ct_index"):
        list(idcfs.Index().query("SELECT * FROM ct_index"))
    path = fetch_table(index, "ct_index", releases_url=url)
    assert path == home / index.version / "ct_index.parquet"
    joined = "SELECT collection_id, thickness FROM CT_Index JOIN index USING (SeriesInstanceUID)"
    ((collection, thickness),) = idcfs.Index().query(joined)
    assert (collection, float(thickness)) == ("lidc_idri", 0.7)
    (chosen,) = (
        idcfs.Index()
        .select(where="SeriesInstanceUID IN (SELECT SeriesInstanceUID FROM ct_index)")
        .series()
    )
    assert chosen.instance_count == 65
    with pytest.raises(UsageError, match="is here already"):
        fetch_table(index, "ct_index", releases_url=url)
    here = {table.name for table in idcfs.Index().tables() if table.is_here}
    assert {"index", "prior_versions_index", "ct_index"} <= here
    assert "mr_index" not in here


@pytest.mark.parametrize("content", [None, b"<html>log in</html>", b"PAR1 cut short PAR"])
def test_what_cannot_be_had_leaves_nothing(
    releases: tuple[str, Path], home: Path, content: bytes | None
) -> None:
    url, directory = releases
    if content is not None:
        (directory / "mr_index.parquet").write_bytes(content)
    with pytest.raises(IdcfsError, match="mr_index"):
        fetch_table(Index.open(), "mr_index", releases_url=url)
    assert not [path for path in home.rglob("*") if path.is_file()]
    with pytest.raises(UsageError, match="there is no table nonsense"):
        fetch_table(Index.open(), "nonsense", releases_url=url)


def test_clinical_tables_are_asked_by_name(tmp_path: Path) -> None:
    store = MemoryStore()
    index = Index.open()
    prefix = f"bigquery_export/idc_v{index.release_number}_clinical"
    for number in range(2):
        content = write(tmp_path / "part", f"SELECT {number} AS patient")
        store.objects[f"{prefix}/nlst_canc/00000000000{number}.parquet"] = content
    store.objects[f"{prefix}/../../escape/0.parquet"] = content
    store.objects[f"{prefix}/other/readme.txt"] = b"no table"
    store.etags = dict.fromkeys(store.objects, "")
    assert fetch_clinical(index, store) == ["nlst_canc"]
    found = idcfs.Index().query("SELECT patient FROM nlst_canc ORDER BY 1")
    assert list(found) == [(0,), (1,)]
    (table,) = (each for each in idcfs.Index().tables() if each.name == "nlst_canc")
    assert table.is_here
    assert isinstance(store.list_prefix("", prefix)[0], StoredObject)
    assert not (tmp_path / "data/idcfs/escape").exists()


def test_a_single_file_is_found_by_its_sop_instance_uid(
    replica: ServedReplica, home: Path, tmp_path: Path
) -> None:
    slide = replica.one("SM")
    built = min(replica.objects_of(slide), key=lambda each: each.key)
    idc = idcfs.Index(endpoint_url=replica.endpoint_url, cache_dir=tmp_path / "cache")
    with idc:
        with pytest.raises(UsageError, match="idcfs tables --fetch sm_instance_index"):
            idc.file("1.2.3")
        (home / Index.open().version).mkdir(parents=True)
        write(
            home / Index.open().version / "sm_instance_index.parquet",
            f"SELECT '1.2.3' AS SOPInstanceUID, '{slide.series_instance_uid}' AS "
            f"SeriesInstanceUID, '{built.key.split('/')[1].removesuffix('.dcm')}' AS "
            "crdc_instance_uuid",
        )
        file = idc.file("1.2.3")
        assert file.url == f"s3://{built.bucket}/{built.key}"
        for _ in range(2):
            file.save(tmp_path / "slide.dcm")
            with file.open() as stream:
                content = stream.read()
        assert (tmp_path / "slide.dcm").read_bytes() == content
        assert content == (replica.directory / built.bucket / built.key).read_bytes()
        with pytest.raises(UsageError, match="no SOPInstanceUID '9'"):
            idc.file("9")


def test_the_command_lists_describes_and_fetches(
    releases: tuple[str, Path], idcfs_command: Callable[..., tuple[int, str, str]]
) -> None:
    url, directory = releases
    status, out, _ = idcfs_command("tables")
    assert status == 0
    lines = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert lines["index"] == lines["collections_index"] == "here"
    assert lines["sm_index"] == "fetch"
    write(directory / "sm_index.parquet", "SELECT 1 AS x")
    status, out, err = idcfs_command("tables", "--fetch", "sm_index", f"--releases-url={url}")
    assert (status, err) == (0, "")
    assert out.startswith("sm_index is here: ")
    status, out, _ = idcfs_command("tables", "sm_index", "--json")
    (told,) = json.loads(out)
    assert told["is_here"]
    assert any(column["name"] == "ContainerIdentifier" for column in told["columns"])
    status, out, _ = idcfs_command("tables", "sm_index")
    assert "  ContainerIdentifier STRING" in out
    assert idcfs_command("tables", "nonsense")[0] == 2
    assert idcfs_command("tables", "--fetch")[0] == 2


@pytest.fixture
def idcfs_command() -> Callable[..., tuple[int, str, str]]:
    from tests.support.mounting import Launcher

    def run(*arguments: str) -> tuple[int, str, str]:
        done = Launcher().run(*arguments)
        return done.returncode, done.stdout, done.stderr

    return run
