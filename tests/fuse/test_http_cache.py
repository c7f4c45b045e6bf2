"""An HTTP cache between several nodes and the store, as docs/clusters.md describes it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fuse.test_tree import default_path
from tests.support.mounting import DEADLINE_S, REPOSITORY, wait_until
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.faults import Request
    from tests.support.mounting import Mount
    from tests.support.replica import ServedReplica

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def http_cache(upstream: str, directory: Path) -> Iterator[str]:
    """Run nginx with the documented configuration before another store; yield its URL."""
    port, root = free_port(), os.geteuid() == 0
    text = (REPOSITORY / "docs" / "nginx-cache.conf").read_text()
    for documented, here in (
        ("https://s3.us-east-1.amazonaws.com", upstream),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("/run/idcfs-cache", str(directory)),
        ("/var/log/nginx", str(directory)),
        ("/var/cache/nginx", str(directory)),
        # pytest's directories are closed to nginx's own user.
        ("worker_processes auto", f"{'user root; ' * root}worker_processes 1"),
    ):
        assert documented in text
        text = text.replace(documented, here)
    config = directory / "nginx.conf"
    config.write_text(f"daemon off;\n{text}")
    with subprocess.Popen(
        ["nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]
    ) as nginx:
        try:
            wait_until(lambda: answers(port), "nginx listens")
            yield f"http://127.0.0.1:{port}"
        finally:
            nginx.terminate()
            nginx.wait(DEADLINE_S)


def is_object(request: Request) -> bool:
    return request.is_object


def test_two_nodes_fetch_each_object_once_through_an_http_cache(
    mount_at: Callable[..., Mount],
    replica: ServedReplica,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    with (
        FaultProxy(replica.endpoint_url) as origin,
        http_cache(origin.endpoint_url, tmp_path_factory.mktemp("nginx")) as url,
    ):
        for number in range(2):
            with mount_at(
                f"--patient-id={series.patient_id}",
                name=f"node{number}",
                endpoint_url=url,
                cache_dir=tmp_path / f"cache{number}",
            ) as node:
                directory = node.path / default_path(series)
                for each in objects:
                    assert (directory / each.name).read_bytes() == each.path.read_bytes()
            asked = [each.request.path for each in origin.log(is_object)]
            assert len(asked) == len(set(asked)) == len(objects)
