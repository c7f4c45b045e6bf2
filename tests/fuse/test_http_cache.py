"""An HTTP cache between several nodes and the store, as docs/clusters.md describes it."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.fuse.test_tree import default_path
from tests.support.mounting import DEADLINE_S, REPOSITORY, Launcher, wait_until
from tests.support.networks import network, why_not
from tests.support.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.faults import Request
    from tests.support.mounting import Mount
    from tests.support.networks import Host
    from tests.support.replica import ServedReplica


def reaches(host: Host, url: str) -> bool:
    """Tell whether a host can connect to a server."""
    server = urlsplit(url)
    # What is not in its network has no route, its own 127.0.0.1 included, and fails at once.
    return host.run("bash", "-c", f"exec 3<>/dev/tcp/{server.hostname}/{server.port}") == 0


@contextmanager
def http_cache(upstream: str, directory: Path, host: Host) -> Iterator[str]:
    """Run nginx on a host, with the documented configuration but for its places; yield its URL."""
    text = (REPOSITORY / "docs" / "nginx-cache.conf").read_text()
    for documented, here in (
        ("https://s3.us-east-1.amazonaws.com", upstream),
        ("/run/idcfs-cache", str(directory)),
        ("/var/log/nginx", str(directory)),
        ("/var/cache/nginx", str(directory)),
        # pytest's directories are closed to nginx's own user.
        ("worker_processes auto", "user root; worker_processes 1"),
    ):
        assert documented in text
        text = text.replace(documented, here)
    config = directory / "nginx.conf"
    config.write_text(f"daemon off;\n{text}")
    command = ["nginx", "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(config)]
    url = f"http://{host.address}:8080"
    with subprocess.Popen([*host.prefix, *command]) as nginx:
        try:
            wait_until(lambda: reaches(host, url), "nginx listens")
            yield url
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
    if reason := why_not() or (None if shutil.which("nginx") else "nginx is not installed"):
        pytest.skip(reason)
    series = replica.one("CT", collection_id="lidc_idri")
    objects = replica.objects_of(series)
    with ExitStack() as stack:
        cache, *nodes = stack.enter_context(network(3))
        origin = stack.enter_context(FaultProxy(replica.endpoint_url, on=cache))
        directory = tmp_path_factory.mktemp("nginx")
        url = stack.enter_context(http_cache(origin.endpoint_url, directory, cache))
        mounts = []
        for number, node in enumerate(nodes):
            assert reaches(node, url)
            assert not reaches(node, replica.endpoint_url), "only the cache reaches the store"
            assert not reaches(node, origin.endpoint_url)
            mount = mount_at(
                f"--patient-id={series.patient_id}",
                name=f"node{number}",
                endpoint_url=url,
                cache_dir=tmp_path / f"cache{number}",
                launcher=Launcher(prefix=node.prefix),
            )
            mounts.append(stack.enter_context(mount))
        for mount in mounts:
            place = mount.path / default_path(series)
            for each in objects:
                assert (place / each.name).read_bytes() == each.path.read_bytes()
        asked = [each.request.path for each in origin.log(is_object)]
        assert len(asked) == len(set(asked)) == len(objects)
