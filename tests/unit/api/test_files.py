"""The thread that brings files to Python: what becomes of it where it cannot begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import idcfs.fetch
import idcfs.store.s3
from idcfs.api.files import Remote
from idcfs.cache import DiskCache
from idcfs.errors import ObjectNotFoundError
from tests.support.scripted import Request, ScriptedServer, listing
from tests.support.stores import make_series
from tests.support.threads import no_threads

if TYPE_CHECKING:
    from pathlib import Path

SERIES = make_series()


class _BrokenError(Exception):
    """What stands for any failure."""


def fail(*args: object, **options: object) -> None:
    raise _BrokenError


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with caches: opened, closed."""
    done: list[str] = []
    prepare, close = DiskCache.__init__, DiskCache.close

    def note_opening(self: DiskCache, *args: object, **options: object) -> None:
        prepare(self, *args, **options)  # type: ignore[arg-type]  # whatever they are
        done.append("opened")

    def note_closing(self: DiskCache) -> None:
        close(self)
        done.append("closed")

    monkeypatch.setattr(DiskCache, "__init__", note_opening)
    monkeypatch.setattr(DiskCache, "close", note_closing)
    return done


def test_a_loop_that_cannot_begin_is_not_waited_for(
    tmp_path: Path, caches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request, _: int) -> None:
        request.send(200, listing([]))

    with ScriptedServer(answer) as server:
        remote = Remote(tmp_path, server.url, "aws")
        with monkeypatch.context() as patched:
            patched.setattr(idcfs.fetch, "Fetcher", fail)
            with pytest.raises(ExceptionGroup) as caught:
                remote.files(SERIES)
        assert caught.group_contains(_BrokenError)
        assert caches == ["opened", "closed"]
        with pytest.raises(ObjectNotFoundError):
            remote.files(SERIES)
        remote.close()
    assert caches == ["opened", "closed"] * 2


def test_where_there_is_no_thread_the_cache_is_closed(tmp_path: Path, caches: list[str]) -> None:
    with no_threads("idcfs-files"), pytest.raises(RuntimeError, match="can't start"):
        Remote(tmp_path, None, "aws").files(SERIES)
    assert caches == ["opened", "closed"]


def test_a_store_that_cannot_be_made_leaves_no_cache_open(
    tmp_path: Path, caches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idcfs.store.s3, "S3Store", fail)
    with pytest.raises(_BrokenError):
        Remote(tmp_path, None, "aws").files(SERIES)
    assert caches.count("opened") == caches.count("closed")
