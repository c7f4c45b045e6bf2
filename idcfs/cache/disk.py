"""The cache as a directory of plain files.

    CACHEDIR.TAG                        tells backup programs to pass over it
    objects/<ab>/<series UUID>/<name>   whole objects, as they are in the store
    listings/<ab>/<series UUID>         what a series holds, kept for ever
    scratch/<random>/                   unfinished files, one directory a process

`<ab>` are the first two characters of the UUID, so that no directory gets too wide.
A file has its final name only when it is whole and checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.cache.listings import decode_listing, encode_listing
from idcfs.cache.objects import DiskObject
from idcfs.cache.scratch import Scratch
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
        except OSError as exc:
            raise CacheError(
                f"cannot use the cache directory {root}: {exc.strerror}; "
                "choose another with --cache-dir"
            ) from exc

    def find_listing(self, series: SeriesUUID) -> Listing | None:
        """See `Cache.find_listing`."""
        try:
            content = self._listing_path(series).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise CacheError(f"cannot read the listing of {series}: {exc.strerror}") from exc
        return decode_listing(series, content)

    def put_listing(self, listing: Listing) -> None:
        """See `Cache.put_listing`."""
        path, unfinished = self._listing_path(listing.series), self._scratch.new_path()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.write_bytes(encode_listing(listing))
            unfinished.rename(path)
        except OSError as exc:
            unfinished.unlink(missing_ok=True)
            raise CacheError(
                f"cannot keep the listing of {listing.series}: {exc.strerror}"
            ) from exc

    def open(self, ref: ObjectRef) -> DiskObject:
        """See `Cache.open`."""
        path = self._objects / ref.series[:2] / ref.series / ref.instance.name
        return DiskObject(ref, path, self._scratch)

    def close(self) -> None:
        """Remove this process's unfinished files."""
        self._scratch.close()

    def _listing_path(self, series: SeriesUUID) -> Path:
        return self._listings / series[:2] / series
