"""The examination that `idcfs doctor` makes: every check, none of which raises."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING
from urllib.request import getproxies

from idcfs.cache.format import check_directory
from idcfs.cache.opening import open_cache
from idcfs.catalog.index import Index
from idcfs.errors import FULL_DISK, AccessDeniedError, CacheError, IdcfsError, IndexFileError
from idcfs.mount.machine import (
    Finding,
    check_allow_other,
    check_device,
    check_fusermount,
    check_mount_helper,
)
from idcfs.mount.mountpoints import FILE_SYSTEM_TYPE, hangs, how_to_end, is_stale
from idcfs.mount.surroundings import check_age, check_clock, check_privileges, check_speed
from idcfs.mount_table import mounts
from idcfs.store.endpoint import get_endpoint
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.store.endpoint import Source

_LOW_SPACE_BYTES = 10**9
"""Less free space than this holds hardly one CT study."""

_OTHER_DIRECTORY = "name another directory with --cache-dir, or as cache-dir in config.toml"

_INSTALLED_INDEX = "pip install --upgrade idc-index-data"
_OTHER_INDEX = "name another file with --index, or leave it out for the index that is installed"

_PROBE_BUCKET = "idc-open-data"
_PROBE_PREFIX = "00000000-0000-0000-0000-000000000000/"
"""No series has this UUID, so that the probe is a listing without a line."""


def examine(
    *, index_path: Path | None, endpoint_url: str | None, source: Source, cache_dir: Path
) -> list[Finding]:
    """Return the result of every check, the most fundamental first."""
    return [
        check_device(),
        check_fusermount(),
        check_privileges(),
        check_allow_other(),
        check_mount_helper(),
        *_check_mounts(),
        *_check_index(index_path),
        *_check_cache(cache_dir),
        *_check_endpoint(endpoint_url, source),
    ]


def _check_mounts() -> list[Finding]:
    """Return a finding for each mount that does not answer, since each is mended by itself."""
    ours = [each.mountpoint for each in mounts() if each.type == FILE_SYSTEM_TYPE]
    wrong = [found for path in ours if (found := _check_mount(path)) is not None]
    return wrong or [Finding("mounts", True, "no dead mount of idcfs")]


def _check_mount(path: Path) -> Finding | None:
    if hangs(path):
        return Finding("mounts", False, f"the daemon behind {path} hangs", how_to_end(path))
    if is_stale(path):
        remedy = f"fusermount3 -uz {shlex.quote(str(path))}"
        return Finding("mounts", False, f"the daemon behind {path} is gone", remedy)
    return None


def _check_index(index_path: Path | None) -> list[Finding]:
    try:
        index = Index.open(index_path)
        age = check_age(index)
    except IndexFileError as exc:
        remedy = _INSTALLED_INDEX if index_path is None else _OTHER_INDEX
        return [Finding("index", False, str(exc), remedy)]
    return [Finding("index", True, f"{index.release} (version {index.version})"), age]


def _check_cache(cache_dir: Path) -> list[Finding]:
    cache_dir = cache_dir.absolute()
    try:
        # Looking must make no cache where there is none: what is there of the path decides.
        place = next(each for each in (cache_dir, *cache_dir.parents) if os.path.lexists(each))
        free = shutil.disk_usage(place).free
        is_full = free < _LOW_SPACE_BYTES
        if place == cache_dir:
            check_directory(cache_dir)
        is_cache = (cache_dir / "CACHEDIR.TAG").exists()
        if is_cache:
            cache = open_cache(cache_dir, background=False).cache
            cache.close()
            if cache.failure is not None and not (is_full and os.access(cache_dir, os.W_OK)):
                raise cache.failure
        speed = _check_speed(place)
    except CacheError as exc:
        return [Finding("cache", False, str(exc), _OTHER_DIRECTORY)]
    except OSError as exc:
        detail = f"cannot use the cache directory {cache_dir}: {exc.strerror}"
        return [Finding("cache", False, detail, _OTHER_DIRECTORY)]
    can = "can be written" if place == cache_dir else "can be made"
    detail = f"{cache_dir} {can}, {free / 1e9:.1f} GB are free"
    if not is_full:
        return [Finding("cache", True, detail), *speed]
    detail = f"{detail}, less than the {_LOW_SPACE_BYTES / 1e9:.0f} GB that it should have"
    remedy = _OTHER_DIRECTORY
    if is_cache:
        remedy = f"idcfs cache clear --cache-dir {shlex.quote(str(cache_dir))}, or {remedy}"
    return [Finding("cache", False, detail, remedy), *speed]


def _check_speed(place: Path) -> list[Finding]:
    """Check the disk's speed, if it has room for that. Raises OSError."""
    try:
        return [check_speed(place)]
    except OSError as exc:
        if exc.errno not in FULL_DISK:
            raise
        return []


def _check_endpoint(endpoint_url: str | None, source: Source) -> list[Finding]:
    subject = "object store"
    try:
        store = S3Store(endpoint_url=endpoint_url, source=source, retry=RetryPolicy(attempts=1))
        try:
            store.list_prefix(_PROBE_BUCKET, _PROBE_PREFIX)
        finally:
            store.close()
    except AccessDeniedError as exc:
        remedy = (
            "ask whoever runs the network's proxy, or have another machine fetch: "
            "idcfs manifest --script run.sh"
        )
        return [Finding(subject, False, str(exc), remedy)]
    except IdcfsError as exc:
        url = get_endpoint(endpoint_url, source).url
        if "certificate" not in str(exc).lower():
            return [Finding(subject, False, str(exc), _reaching(url))]
        # A proxy that looks into HTTPS signs with an authority of its own; or it is the clock.
        remedy = "export AWS_CA_BUNDLE=/the/certificates/of/your/proxy.pem"
        found = Finding(subject, False, str(exc), remedy)
    else:
        found = Finding(subject, True, f"{endpoint_url or source} answers")
    clock = check_clock(get_endpoint(endpoint_url, source).url)
    return [found] if clock is None else [found, clock]


def _reaching(url: str) -> str:
    """Return what to try where a server cannot be reached."""
    variable = "HTTPS_PROXY" if url.startswith("https:") else "HTTP_PROXY"
    proxy = getproxies().get(variable.removesuffix("_PROXY").lower())
    if proxy is None:
        return (
            f"see what `curl -I {shlex.quote(url)}` says; where the network wants a proxy: "
            f"export {variable}=http://HOST:PORT"
        )
    host = proxy.rpartition("@")[2]  # a password may stand before it
    return (
        f"{variable} names the proxy {host}: export {variable}=http://HOST:PORT if that is wrong, "
        f"or unset {variable}"
    )
