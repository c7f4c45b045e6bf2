"""Hosts of a network that is nowhere else: namespaces, joined by a bridge in the first of them."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.mounting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
"""From linux/sched.h."""

_OWN = "/proc/thread-self/ns/net"


@dataclass(frozen=True)
class Host:
    """A network namespace with an address, kept by a process that does nothing else."""

    address: str
    keeper: int

    @property
    def namespace(self) -> str:
        return f"/proc/{self.keeper}/ns/net"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command there, with the files and mounts of here."""
        return ("nsenter", f"--net={self.namespace}")

    def run(self, *command: str) -> int:
        """Run a command there and return its status."""
        return subprocess.run(
            [*self.prefix, *command], stderr=subprocess.DEVNULL, check=False, timeout=DEADLINE_S
        ).returncode

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread make sockets there: they stay where they were made."""
        with Path(_OWN).open() as here, Path(self.namespace).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())


def why_not() -> str | None:
    """Return what keeps us from making networks, None if nothing does."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    tried = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "dev", "eth0", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no network can be made here: {tried.stderr.strip()}" if tried.returncode else None


@contextmanager
def network(size: int) -> Iterator[list[Host]]:
    """Yield hosts that reach one another and nobody else.

    Their addresses are those that RFC 5737 keeps for examples.
    """
    with ExitStack() as stack:
        hosts = [stack.enter_context(_host(f"192.0.2.{n + 1}")) for n in range(size)]
        first, *others = hosts
        script = [
            "ip link set dev lo up",
            "ip link add dev bridge type bridge",
            f"ip address add {first.address}/24 dev bridge",
            "ip link set dev bridge up",
        ]
        for number, host in enumerate(others):
            script += [
                f"ip link add dev port{number} type veth peer name eth0 netns {host.keeper}",
                f"ip link set dev port{number} master bridge up",
            ]
        _run(first, script)
        for host in others:
            _run(host, [f"ip address add {host.address}/24 dev eth0", "ip link set dev eth0 up"])
        yield hosts


@contextmanager
def _host(address: str) -> Iterator[Host]:
    # It says so when it is in its namespace, and lives until its input ends.
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo there; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "there\n"
        yield Host(address, keeper.pid)


def _run(host: Host, script: list[str]) -> None:
    done = subprocess.run(
        [*host.prefix, "sh", "-ec", "\n".join(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
