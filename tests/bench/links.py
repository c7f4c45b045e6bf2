"""Links of known delay and speed: nginx on loopback, in front of the object store.

Each profile is a server of its own with its own access log. The delay comes before the
request goes on to the store, the rate holds for each connection. Nothing else is like a
real network: there are no losses, and connecting is free.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idcfs.demo.server import HOST
from tests.bench.errors import BenchError, UnavailableError
from tests.bench.processes import Guarded, environment, tool
from tests.bench.wire import LOG_FORMAT, Wire, read_log

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULES: Final = ("ndk_http_module.so", "ngx_http_lua_module.so")
_MODULE_DIRECTORY: Final = Path("/usr/lib/nginx/modules")
_FIRST_PORT: Final = 22_100
_LAST_PORT: Final = 32_000
"""Below those that outgoing connections use."""
_START_S: Final = 10.0
_QUIET_S: Final = 15.0
_POLL_S: Final = 0.01
_PROBE_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Profile:
    """How slow a link is."""

    name: str
    delay_ms: int
    rate_bytes_s: int
    """For each connection; 0 is no limit."""


PROFILES: Final = (
    Profile("link", 30, 80_000_000),
    Profile("slow", 100, 8_000_000),
    Profile("plain", 0, 0),
)
"""`plain` only counts."""


@dataclass(frozen=True, slots=True)
class Link:
    """One profile, being served."""

    profile: Profile
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """The S3 endpoint at the far end."""
        return f"http://{HOST}:{self.port}"

    def mark(self) -> int:
        """Return the place in the log that `since` starts from, once nobody is connected."""
        self._wait_until_quiet()
        return self.log_size()

    def log_size(self) -> int:
        """Return the place in the log where the next request that ends will be."""
        return self.log_path.stat().st_size

    def since(self, mark: int) -> Wire:
        """Return what has gone over the link since, once everybody has hung up."""
        self._wait_until_quiet()
        return self.logged(mark)

    def logged(self, mark: int) -> Wire:
        """Return the requests that have ended since, whoever may be connected still."""
        with self.log_path.open() as log:
            log.seek(mark)
            return read_log(log)

    def _wait_until_quiet(self) -> None:
        """Wait until nobody is connected: nginx logs a request when it is over."""
        end = time.monotonic() + _QUIET_S
        while (others := self._connections() - 1) > 0:
            if time.monotonic() > end:
                raise BenchError(f"{others} connections to {self.profile.name} stay open")
            time.sleep(_POLL_S)

    def _connections(self) -> int:
        """Return how many are connected, ourselves included."""
        return int(_get(self.port, _STATUS).split(b"\n", 1)[0].rsplit(b":", 1)[1])


@contextmanager
def serve_links(store_port: int) -> Iterator[dict[str, Link]]:
    """Yield the links to the store at `store_port`, by the name of their profile.

    Raises UnavailableError if nginx or its Lua module is not installed, and BenchError if
    it does not come up.
    """
    directory = Path(tempfile.mkdtemp(prefix="idcfs-links-"))
    directory.chmod(0o755)  # run by root, nginx's worker is another user
    links = {
        profile.name: Link(profile, port, directory / f"{profile.name}.log")
        for profile, port in zip(PROFILES, _free_ports(), strict=False)
    }
    try:
        (directory / "nginx.conf").write_text(_configuration(links, store_port))
        nginx = Guarded(
            [_find_nginx(), "-p", str(directory), "-e", "stderr", "-c", "nginx.conf"],
            log_path=directory / "nginx.out",
            env=environment(directory),
        )
        try:
            _wait_until_up(nginx, links)
            yield links
        finally:
            nginx.stop()
    finally:
        shutil.rmtree(directory)


def measure_link(link: Link, target: str) -> tuple[float, float]:
    """Return what the link really is: the delay in ms and the bytes/s of one connection.

    The delay is that of the first byte of an object; `target` is the path of a large one.
    """
    connection = http.client.HTTPConnection(HOST, link.port, timeout=60)
    delays = []
    for _ in range(5):
        started = time.perf_counter()
        connection.request("GET", target, headers={"Range": "bytes=0-0"})
        connection.getresponse().read()
        delays.append(time.perf_counter() - started)
    size = min(_PROBE_BYTES, link.profile.rate_bytes_s or _PROBE_BYTES)
    connection.request("GET", target, headers={"Range": f"bytes=0-{size - 1}"})
    answer = connection.getresponse()
    started = time.perf_counter()
    received = len(answer.read())
    seconds = time.perf_counter() - started
    connection.close()
    return sorted(delays)[2] * 1000, received / seconds


def _find_nginx() -> str:
    if missing := [name for name in _MODULES if not (_MODULE_DIRECTORY / name).exists()]:
        raise UnavailableError(
            f"nginx lacks {', '.join(missing)}: apt install nginx libnginx-mod-http-lua"
        )
    return tool("nginx")


def _free_ports() -> Iterator[int]:
    for port in range(_FIRST_PORT, _LAST_PORT):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        yield port


def _configuration(links: dict[str, Link], store_port: int) -> str:
    servers = "\n".join(_server(link) for link in links.values())
    modules = "\n".join(f"load_module {_MODULE_DIRECTORY / name};" for name in _MODULES)
    return f"""
{modules}
daemon off;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    log_format wire '{LOG_FORMAT}';
    client_body_temp_path temp-body;
    proxy_temp_path temp-proxy;
    fastcgi_temp_path temp-fastcgi;
    uwsgi_temp_path temp-uwsgi;
    scgi_temp_path temp-scgi;
    tcp_nodelay on;
    keepalive_requests 1000000;
    upstream store {{ server {HOST}:{store_port}; keepalive 256; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    # Enough that the store is never held up, and nothing is ever written to disk.
    proxy_buffers 32 64k;
    proxy_busy_buffers_size 128k;
    proxy_buffer_size 64k;
    proxy_max_temp_file_size 0;
{servers}
}}
"""


_STATUS: Final = "/-/status"
"""No bucket is called `-`."""


def _server(link: Link) -> str:
    seconds, rate = link.profile.delay_ms / 1000, link.profile.rate_bytes_s
    delay = f"access_by_lua_block {{ ngx.sleep({seconds}) }}" if seconds else ""
    limit = f"limit_rate {rate};" if rate else ""
    return f"""
    server {{
        listen {HOST}:{link.port} backlog=1024;
        access_log {link.log_path} wire;
        location = {_STATUS} {{ access_log off; stub_status; }}
        location / {{ {delay} {limit} proxy_pass http://store; }}
    }}"""


def _wait_until_up(nginx: Guarded, links: dict[str, Link]) -> None:
    end = time.monotonic() + _START_S
    for link in links.values():
        while not _answers(link.port):
            if not nginx.running or time.monotonic() > end:
                raise BenchError(f"nginx does not come up: {nginx.said}")
            time.sleep(_POLL_S)


def _answers(port: int) -> bool:
    try:
        _get(port, _STATUS)
    except OSError:
        return False
    return True


def _get(port: int, target: str) -> bytes:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", target)
        return connection.getresponse().read()
    finally:
        connection.close()
