"""What the figures were measured with and on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from tests.bench.errors import UnavailableError
from tests.bench.processes import tool

_COMMANDS: Final = {
    "rclone": ("rclone", "version"),
    "s5cmd": ("s5cmd", "version"),
    "s3fs": ("s3fs", "--version"),
    "nginx": ("nginx", "-v"),
    "fusermount3": ("fusermount3", "--version"),
    "SeaweedFS": ("weed", "version"),
}
_PACKAGES: Final = ("idcfs", "idc-index-data", "pyfuse3", "trio", "duckdb")
_ABSENT: Final = "not installed"


def describe_machine() -> dict[str, str]:
    """Return what the machine is, each by a word for it."""
    memory_kib = int(_first_field("/proc/meminfo", "MemTotal").split()[0])
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return {
        "processors": f"{os.cpu_count()} × {_first_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{memory_kib * 1024 / 1e9:.0f} GB",
        "system": f"{system}, Linux {platform.release()}",
        "Python": platform.python_version(),
    }


def versions(repository: Path) -> dict[str, str]:
    """Return the version of everything that takes part."""
    found = {"commit": _commit(repository)}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = _ABSENT
    for name, (program, *arguments) in _COMMANDS.items():
        found[name] = _ask(program, *arguments)
    return found


def load_average() -> float:
    """Return how many processes wanted a core, over the last minute."""
    return os.getloadavg()[0]


def _first_field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"


def _commit(repository: Path) -> str:
    done = subprocess.run(
        ["git", "-C", repository, "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout.strip() or "not a clone"


def _ask(program: str, *arguments: str) -> str:
    """Return the first thing like a version number that a program says of itself."""
    try:
        path = tool(program)
    except UnavailableError:
        return _ABSENT
    done = subprocess.run(
        [path, *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    match = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return match[0] if match else "unknown"
