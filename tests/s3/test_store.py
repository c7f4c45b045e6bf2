"""S3Store against a real S3 server. Servers that misbehave are in test_store_faults."""

from __future__ import annotations

import hashlib
import io
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from idcfs.demo.s3http import Connection
from idcfs.demo.server import EmbeddedStore
from idcfs.errors import IntegrityError, ObjectNotFoundError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store
from tests.support.faults import Delay
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.store import ObjectStore
    from tests.support.replica import ServedReplica

BUCKET = "idc-open-data"
WIDE = sorted(f"wide/{UUID(int=random.Random(n).getrandbits(128))}.dcm" for n in range(2500))
ODD = [
    "odd/Ünïcode €😀.dcm",
    "odd/with space.dcm",
    "odd/plus+plus.dcm",
    "odd/per%41cent.dcm",
    "odd/a&b=c?d#e;f.dcm",
    "odd/<tag>&amp;\"quote'.dcm",
    "odd/tab\there.dcm",
    "odd/line\nbreak.dcm",
    "odd/~tilde*star(paren)!.dcm",
]
LARGE = random.Random(1).randbytes(9_000_001)


@dataclass(frozen=True)
class Served:
    """A server, the store under test in front of it, and what was put there, by key."""

    server: EmbeddedStore
    store: S3Store
    etags: dict[str, str]


def put(connection: Connection, key: str, content: bytes) -> str:
    return connection.put_object(BUCKET, key, io.BytesIO(content), len(content))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with EmbeddedStore(tmp_path_factory.mktemp("server")) as server:
        with Connection(server.endpoint_url) as connection:
            connection.create_bucket(BUCKET)
            contents = {key: key.encode() for key in [*WIDE, *ODD]}
            contents |= {"s/large.dcm": LARGE, "s/empty.dcm": b""}
            etags = {key: put(connection, key, body) for key, body in contents.items()}
        with closing(S3Store(endpoint_url=server.endpoint_url)) as store:
            yield Served(server, store, etags)


def fetch(served: Served, key: str, extent: Extent) -> bytes:
    received = bytearray()
    served.store.get_extent(BUCKET, key, extent, received.extend, etag=served.etags[key])
    return bytes(received)


def test_the_store_keeps_the_protocol() -> None:
    store: ObjectStore = S3Store()
    store.close()


def test_a_wide_prefix_is_listed_whole_and_in_order(served: Served) -> None:
    before_ns = time.time_ns() - 600 * 10**9
    listed = served.store.list_prefix(BUCKET, "wide/")
    assert [o.key for o in listed] == WIDE
    assert all(o.size_bytes == len(o.key) for o in listed)
    assert all(o.etag == hashlib.md5(o.key.encode()).hexdigest() for o in listed)
    assert all(before_ns < o.mtime_ns < time.time_ns() + 10**9 for o in listed)


@pytest.mark.parametrize(
    ("prefix", "expected", "requests"),
    [("wide/", 2500, 3), ("wide/", None, 3), ("wide/", 10, 3), ("wide/3", 150, 1)],
)
def test_a_listing_takes_as_few_requests_as_its_length_allows(
    served: Served, prefix: str, expected: int | None, requests: int
) -> None:
    with (
        FaultProxy(served.server.endpoint_url) as proxy,
        closing(S3Store(endpoint_url=proxy.endpoint_url)) as store,
    ):
        listed = store.list_prefix(BUCKET, prefix, expected=expected)
        assert [o.key for o in listed] == [key for key in WIDE if key.startswith(prefix)]
        assert len(proxy.log()) == requests


@pytest.mark.parametrize("expected", [1001, 90_000])
def test_a_wrong_expectation_costs_requests_only(served: Served, expected: int) -> None:
    assert [o.key for o in served.store.list_prefix(BUCKET, "wide/", expected=expected)] == WIDE
    odd = served.store.list_prefix(BUCKET, "odd/", expected=expected)
    assert [o.key for o in odd] == sorted(ODD)


def test_slices_of_a_listing_are_asked_for_at_once(served: Served) -> None:
    with (
        FaultProxy(served.server.endpoint_url) as proxy,
        closing(S3Store(endpoint_url=proxy.endpoint_url)) as store,
        ThreadPoolExecutor(1) as thread,
    ):
        proxy.fail(Delay(60))
        listing = thread.submit(store.list_prefix, BUCKET, "wide/", expected=2500)
        proxy.wait_for(lambda proxy: len(proxy.log()) == 3)
        proxy.clear()
        assert len(listing.result()) == 2500


def test_an_unknown_prefix_is_empty(served: Served) -> None:
    assert served.store.list_prefix(BUCKET, "no-such-series/") == []


def test_an_unknown_bucket_or_key_is_not_found(served: Served) -> None:
    with pytest.raises(ObjectNotFoundError, match="no-such-bucket"):
        served.store.list_prefix("no-such-bucket", "s/")
    with pytest.raises(ObjectNotFoundError, match=r"s/none\.dcm"):
        served.store.get_extent(BUCKET, "s/none.dcm", Extent(0, 1), bytearray().extend, etag="e")


def test_odd_keys_are_listed_and_read(served: Served) -> None:
    listed = {o.key: o for o in served.store.list_prefix(BUCKET, "odd/")}
    assert list(listed) == sorted(ODD)
    for key, stored in listed.items():
        assert fetch(served, key, Extent(0, stored.size_bytes)) == key.encode()


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, len(LARGE)), (len(LARGE) - 1, 1), (1, len(LARGE) - 2), (4_194_303, 2), (77, 0)],
)
def test_an_extent_is_exactly_its_bytes(served: Served, offset: int, length: int) -> None:
    assert fetch(served, "s/large.dcm", Extent(offset, length)) == LARGE[offset : offset + length]


def test_an_empty_object_is_read(served: Served) -> None:
    (stored,) = served.store.list_prefix(BUCKET, "s/empty.dcm")
    assert stored.size_bytes == 0
    assert fetch(served, "s/empty.dcm", Extent(0, 0)) == b""


@pytest.mark.parametrize("extent", [Extent(len(LARGE) - 5, 6), Extent(len(LARGE), 1)])
def test_an_extent_past_the_end_is_an_integrity_error(served: Served, extent: Extent) -> None:
    with pytest.raises(IntegrityError, match="shorter"):
        fetch(served, "s/large.dcm", extent)


def test_another_etag_is_an_integrity_error(served: Served) -> None:
    with pytest.raises(IntegrityError, match="changed"):
        served.store.get_extent(
            BUCKET, "s/large.dcm", Extent(0, 1), bytearray().extend, etag="0" * 32
        )


def test_many_threads_each_get_their_own_bytes(served: Served) -> None:
    def work(seed: int) -> int:
        choose = random.Random(seed)
        for _ in range(8):
            offset = choose.randrange(len(LARGE))
            length = min(choose.randrange(300_000), len(LARGE) - offset)
            if fetch(served, "s/large.dcm", Extent(offset, length)) != LARGE[offset:][:length]:
                return 0
        return len(served.store.list_prefix(BUCKET, "odd/"))

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(work, range(32))) == [len(ODD)] * 32


def test_connections_are_kept_for_the_next_request(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level("DEBUG", logger="idcfs.store.connections"),
        closing(S3Store(endpoint_url=served.server.endpoint_url)) as store,
    ):
        for offset in range(20):
            extent = Extent(offset, 100_000)
            store.get_extent(BUCKET, "s/large.dcm", extent, bytearray().extend, etag="")
            store.list_prefix(BUCKET, "odd/")
    assert len(caplog.messages) == 1


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    quick = RetryPolicy(attempts=2, first_pause_s=0.01)
    with (
        EmbeddedStore(tmp_path) as server,
        closing(S3Store(endpoint_url=server.endpoint_url, retry=quick)) as store,
    ):
        assert list_after_put(server, store, "s/before.dcm")
        server.stop()
        with pytest.raises(StoreUnavailableError):
            store.list_prefix(BUCKET, "s/")
        server.start()
        assert list_after_put(server, store, "s/after.dcm")


def list_after_put(server: EmbeddedStore, store: S3Store, key: str) -> bool:
    with Connection(server.endpoint_url) as connection:
        connection.create_bucket(BUCKET)
        put(connection, key, b"content")
    return key in {stored.key for stored in store.list_prefix(BUCKET, "s/")}


def test_the_objects_of_the_replica_arrive_as_they_were_built(replica: ServedReplica) -> None:
    with closing(S3Store(endpoint_url=replica.endpoint_url)) as store:
        for series in replica.series[:3]:
            for built in replica.objects_of(series)[:3]:
                digest = hashlib.md5()
                whole = Extent(0, built.size_bytes)
                store.get_extent(built.bucket, built.key, whole, digest.update, etag=built.md5)
                assert digest.hexdigest() == built.md5
