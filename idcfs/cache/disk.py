"""The cache as a directory of plain files.

    CACHEDIR.TAG                        tells backup programs to pass over it
    objects/<ab>/<series UUID>/<name>   whole objects, as they are in the store
    listings/<ab>/<series UUID>         what a series holds, kept for ever
    scratch/<random>/                   unfinished files, one directory a process

`<ab>` are the first two characters of the UUID, so that no directory gets too wide.
A file has its final name only when it is whole and checked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from idcfs.cache.listings import decode_listing, encode_listing
from idcfs.cache.objects import DiskObject
from idcfs.cache.scratch import Scratch, remove_quietly
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.model import Listing, ObjectRef, SeriesUUID

# The signature that https://bford.info/cachedir/ asks for.
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of idcfs.\n"


class DiskCache:
    """A `Cache` in a directory of a local file system. See the protocol for the contract.

    Any number of processes may use one directory. Raises CacheError when the
    directory cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._listings = root / "listings"
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            tag = root / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_bytes(_TAG)
            self._scratch = Scratch(root / "scratch")
        except (OSError, ValueError) as exc:
            raise CacheError(
                f"cannot use the cache directory {root}: {_reason(exc)}; "
                "choose another with --cache-dir"
            ) from exc

    def find_listing(self, series: SeriesUUID) -> Listing | None:
        """See `Cache.find_listing`."""
        try:
            content = self._listing_path(series).read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise CacheError(f"cannot read the listing of {series}: {_reason(exc)}") from exc
        return decode_listing(series, content)

    def put_listing(self, listing: Listing) -> None:
        """See `Cache.put_listing`."""
        path = self._listing_path(listing.series)
        try:
            self._write(path, encode_listing(listing))
        except (OSError, ValueError) as exc:  # UnicodeEncodeError is a ValueError
            raise CacheError(
                f"cannot keep the listing of {listing.series}: {_reason(exc)}"
            ) from exc

    def open(self, ref: ObjectRef) -> DiskObject:
        """See `Cache.open`."""
        series, name = ref.series, ref.instance.name
        if not _is_plain(series) or not _is_plain(name):
            raise CacheError(f"cannot keep an object under the name {ref.key!r}")
        return DiskObject(ref, self._objects / series[:2] / series / name, self._scratch)

    def close(self) -> None:
        """Remove this process's unfinished files. Never raises."""
        self._scratch.close()

    def _listing_path(self, series: SeriesUUID) -> Path:
        if not _is_plain(series):
            raise CacheError(f"cannot keep a listing under the name {series!r}")
        return self._listings / series[:2] / series

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished, fd = self._scratch.create()
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            unfinished.rename(path)
        except BaseException:
            remove_quietly(unfinished)
            raise


def _is_plain(name: str) -> bool:
    """Tell whether a name stays where it is put, and so do its first two characters."""
    return "/" not in name and name[:2] not in {"", ".", ".."}


def _reason(exc: OSError | ValueError) -> str:
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
