"""Turns what a store lists into what a series holds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from idcfs.errors import ObjectNotFoundError
from idcfs.model import Instance, Listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idcfs.model import Series
    from idcfs.store import StoredObject

logger = logging.getLogger(__name__)

_NAME_LIMIT_BYTES = 255
"""NAME_MAX of Linux."""


def make_listing(series: Series, objects: Iterable[StoredObject]) -> Listing:
    """Return the series' listing, sorted by name.

    Names come from the network and are not trusted: whatever could not be a file
    name in one directory is left out, with a line in the log. Raises
    ObjectNotFoundError when nothing is left, since no series is empty.
    """
    instances = []
    for stored in objects:
        name = stored.key.removeprefix(series.prefix)
        if not is_file_name(name) or stored.size_bytes < 0:
            logger.warning("series %s: passing over the object %r", series.uuid, stored.key)
            continue
        etag = stored.etag if stored.etag.isalnum() or _is_multipart(stored.etag) else ""
        instances.append(Instance(name, stored.size_bytes, stored.mtime_ns, etag))
    if not instances:
        raise ObjectNotFoundError(
            f"the store has no objects of series {series.uuid} in bucket {series.bucket}, "
            f"where the index expects {series.instance_count or 'some'}"
        )
    instances.sort(key=lambda instance: instance.name.encode())
    return Listing(series.uuid, tuple(instances))


def is_file_name(name: str) -> bool:
    """Tell whether `name` can stand in a directory, and on one line of a listing."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    return (
        0 < len(encoded) <= _NAME_LIMIT_BYTES
        and name not in {".", ".."}
        and "/" not in name
        and not any(ord(character) < 32 or ord(character) == 127 for character in name)
    )


def is_complete(series: Series, listing: Listing) -> bool:
    """Tell whether the listing has as many instances as the index expects."""
    return series.instance_count in {None, len(listing.instances)}


def _is_multipart(etag: str) -> bool:
    return etag.replace("-", "").isalnum()
