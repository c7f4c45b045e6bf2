"""Checks of what surrounds a mount: privileges, the cache's disk, the clock, the index's age."""

from __future__ import annotations

import datetime
import email.utils
import os
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.catalog.compile import release_time_ns
from idcfs.catalog.engine import connect
from idcfs.mount.machine import Finding

if TYPE_CHECKING:
    from idcfs.catalog.index import Index

_CAP_SYS_ADMIN = 1 << 21
"""From linux/capability.h: what mount(2) asks for."""

_TRIAL_BYTES = 8 << 20
_SLOW_BYTES_PER_S = 20e6
"""A line of 200 Mbit/s brings as much; a cache below that slows reading down."""

_CLOCK_TOLERANCE_S = 300.0
"""Certificates and signed requests break at larger differences."""

_CLOCK_TIMEOUT_S = 5.0

_OLD_DAYS = 365
"""IDC has several releases a year."""


def check_privileges(status: Path = Path("/proc/self/status")) -> Finding:
    """Check that this process, or fusermount3 started by it, may mount at all.

    A container keeps the capability from root too, unless it is told otherwise.
    """
    subject = "privileges"
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    if int(lines["CapEff"], 16) & _CAP_SYS_ADMIN:
        return Finding(subject, True, "this process may mount")
    in_container = (
        "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN "
        "(and --security-opt apparmor=unconfined where AppArmor is on)"
    )
    if os.geteuid() == 0 or not int(lines["CapBnd"], 16) & _CAP_SYS_ADMIN:
        return Finding(subject, False, "the capability CAP_SYS_ADMIN is missing", in_container)
    if lines["NoNewPrivs"].strip() == "1":
        return Finding(
            subject,
            False,
            "fusermount3 gets no privileges here (no_new_privs is set)",
            "unset NoNewPrivileges= in the unit, or --security-opt no-new-privileges",
        )
    return Finding(subject, True, "fusermount3 may mount for you")


def check_speed(directory: Path) -> Finding:
    """Check how quickly the disk of a cache directory takes 8 MB. Raises OSError."""
    with tempfile.TemporaryFile(dir=directory) as file:
        content = os.urandom(_TRIAL_BYTES)  # some disks compress
        began = time.monotonic()
        file.write(content)
        file.flush()
        os.fdatasync(file.fileno())
        seconds = time.monotonic() - began
    rate = _TRIAL_BYTES / max(seconds, 1e-6)
    return Finding(
        "cache disk",
        rate >= _SLOW_BYTES_PER_S,
        f"{directory} takes {rate / 1e6:,.0f} MB/s",
        "name a directory on a local disk with --cache-dir, or as cache-dir in config.toml",
        needed=False,
    )


def check_clock(url: str, timeout_s: float = _CLOCK_TIMEOUT_S) -> Finding | None:
    """Compare the clock with that of a server; None if it does not tell the time.

    It is asked without TLS, which a clock that is off would break.
    """
    plain = f"http://{url.removeprefix('https://')}" if url.startswith("https://") else url
    request = urllib.request.Request(plain, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            told = answer.headers.get("Date")
    except urllib.error.HTTPError as exc:  # it answers, which is enough
        told = exc.headers.get("Date")
        exc.close()
    except (OSError, HTTPException, ValueError):  # which the check of the endpoint tells
        return None
    try:
        server_s = email.utils.parsedate_to_datetime(told or "").timestamp()
    except ValueError:
        return None
    ahead_s = time.time() - server_s
    if abs(ahead_s) <= _CLOCK_TOLERANCE_S:
        return Finding("clock", True, "it agrees with the server's")
    side = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock",
        False,
        f"it is {abs(ahead_s) / 60:,.0f} minutes {side} the server's",
        "sudo timedatectl set-ntp true",
        needed=False,
    )


def check_age(index: Index) -> Finding:
    """Check how old the index's release is. Raises IndexFileError if it cannot be read."""
    with connect(index) as connection:
        released = release_time_ns(connection, index) / 1e9
    days = (time.time() - released) / 86_400
    when = datetime.datetime.fromtimestamp(released, datetime.UTC).date()
    return Finding(
        "index age",
        days <= _OLD_DAYS,
        f"{index.release} is of {when}",
        "pip install --upgrade idc-index-data",
        needed=False,
    )
