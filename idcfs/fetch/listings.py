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

_SIZE_LIMIT_BYTES = 1 << 46
"""64 TiB. S3's largest object has 50 TB, and the kernel takes no more than 63 bits."""


def make_listing(series: Series, objects: Iterable[StoredObject]) -> Listing:
    """Return the series' listing, sorted by name.

    Names come from the network and are not trusted: whatever could not be a file
    name in one directory is left out, with a line in the log. Raises
    ObjectNotFoundError when nothing is left, since no series is empty.
    """
    instances: dict[str, Instance] = {}
    for stored in objects:
        name = stored.key.removeprefix(series.prefix)
        if (
            not stored.key.startswith(series.prefix)
            or not is_file_name(name)
            or name in instances
            or not 0 <= stored.size_bytes <= _SIZE_LIMIT_BYTES
        ):
            logger.warning("series %s: passing over the object %r", series.uuid, stored.key)
            continue
        etag = stored.etag if _is_etag(stored.etag) else ""
        instances[name] = Instance(name, stored.size_bytes, stored.mtime_ns, etag)
    if not instances:
        raise ObjectNotFoundError(
            f"the store has no objects of series {series.uuid} in bucket {series.bucket}, "
            f"where the index expects {series.instance_count or 'some'}"
        )
    in_order = sorted(instances.values(), key=lambda instance: instance.name.encode())
    return Listing(series.uuid, tuple(in_order))


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


def _is_etag(etag: str) -> bool:
    """Tell whether an ETag can be sent back in a header: Google's have `/` and `=` in them."""
    return etag.isascii() and etag.isprintable() and not set(' "\\') & set(etag)
