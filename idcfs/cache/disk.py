"""The cache as a directory of plain files, described in docs/cache-format.md.

    CACHEDIR.TAG, format                say what this is, and in which version
    objects/<ab>/<series UUID>/<name>   whole objects, as they are in the store
    partial/<ab>/<series UUID>/<name>   large objects while they fill, sparse
    sums/<ab>/<series UUID>/<name>      checksums that do not fit into a file attribute
    listings/<origin>/<ab>/<series UUID>  what a store holds of a series, kept for ever
    scratch/<random>/                   unfinished files, one directory a process
    claims                              locked byte by byte by those who fetch

`<ab>` are the first two characters of the UUID, so that no directory gets too wide.
A file has its final name only when it is whole and checked.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from idcfs.cache.claims import Claims
from idcfs.cache.format import prepare_root
from idcfs.cache.held import Services
from idcfs.cache.inventory import LISTINGS, is_plain
from idcfs.cache.ledger import NoLedger
from idcfs.cache.listings import decode_listing, encode_listing
from idcfs.cache.objects import DiskObject
from idcfs.cache.paths import Paths
from idcfs.cache.scratch import Scratch, move, remove_quietly
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.ledger import Ledger
    from idcfs.cache.protocol import FindChecksums
    from idcfs.cache.scratch import ScratchSpace
    from idcfs.cache.shared_scratch import SharedScratch
    from idcfs.model import Listing, ObjectRef, SeriesUUID

logger = logging.getLogger(__name__)


class DiskCache:
    """A `Cache` in a directory of a local file system. See the protocol for the contract.

    Any number of processes of one user may use one directory. `origin` names the store that
    listings come from: ETags, which they hold, may differ between copies of the same
    objects; the objects themselves are shared by all origins. `ledger` keeps it within
    its limits, and is closed with it. `shared` is this process's place in a directory that
    several hosts share; without it all must be on one. Every block is compared with its
    checksum at its first use after an object is opened; with `verify_reads`, at every use.

    A directory that cannot be written is read: `failure` says why. Raises CacheError when
    it cannot be used at all, is not ours, or is of a newer format.
    """

    def __init__(
        self,
        root: Path,
        *,
        origin: str = "aws",
        ledger: Ledger | None = None,
        shared: SharedScratch | None = None,
        verify_reads: bool = False,
    ) -> None:
        self.root = root
        self._listings = root / LISTINGS / origin
        self._shared = shared
        self._scratch: ScratchSpace = shared or Scratch(root / "scratch")
        self._claims = Claims(None if shared else root / "claims")
        self._ledger = ledger or NoLedger()
        self._services = Services(self._scratch, self._claims, self._ledger, verify_reads)
        self.failure: CacheError | None = None
        try:
            failed = prepare_root(root) or self._prepare_scratch()
        except (OSError, ValueError) as exc:
            raise CacheError(
                f"cannot use the cache directory {root}: {_reason(exc)}; "
                "choose another with --cache-dir"
            ) from exc
        if failed is not None:
            self.failure = CacheError(
                f"cannot write to the cache directory {root}: {_reason(failed)}; "
                "what it holds is used, and nothing is added"
            )
            logger.warning("%s", self.failure)

    @property
    def shared(self) -> SharedScratch | None:
        """This process's place among those of several hosts; None where there is one."""
        return self._shared

    def _prepare_scratch(self) -> OSError | None:
        try:
            self._scratch.prepare()
        except OSError as exc:
            return exc
        return None

    def find_listing(self, series: SeriesUUID) -> Listing | None:
        """See `Cache.find_listing`."""
        try:
            content = self._listing_path(series).read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise CacheError(f"cannot read the listing of {series}: {_reason(exc)}") from exc
        return decode_listing(series, content)

    def may_have(self, ref: ObjectRef) -> bool:
        """See `Cache.may_have`."""
        series, name = ref.series, ref.instance.name
        if not is_plain(series) or not is_plain(name):
            return False
        return os.path.exists(Paths(self.root, series, name).whole)  # noqa: PTH110  # never raises

    def may_have_of(self, series: SeriesUUID) -> bool:
        """See `Cache.may_have_of`."""
        return is_plain(series) and os.path.exists(Paths(self.root, series, "-").whole.parent)  # noqa: PTH110

    def put_listing(self, listing: Listing) -> None:
        """See `Cache.put_listing`."""
        path = self._listing_path(listing.series)
        try:
            self._write(path, encode_listing(listing))
        except (OSError, ValueError) as exc:  # UnicodeEncodeError is a ValueError
            raise CacheError(
                f"cannot keep the listing of {listing.series}: {_reason(exc)}"
            ) from exc

    def open(
        self, ref: ObjectRef, find_checksums: FindChecksums = list, *, waits: bool = True
    ) -> DiskObject:
        """See `Cache.open`."""
        series, name = ref.series, ref.instance.name
        if not is_plain(series) or not is_plain(name):
            raise CacheError(f"cannot keep an object under the name {ref.key!r}")
        paths = Paths(self.root, series, name, self._shared)
        return DiskObject(ref, paths, self._services, find_checksums, waits=waits)

    def close(self) -> None:
        """Remove this process's unfinished files, and close the ledger. Never raises."""
        self._scratch.close()
        self._claims.close()
        self._ledger.close()

    def _listing_path(self, series: SeriesUUID) -> Path:
        if not is_plain(series):
            raise CacheError(f"cannot keep a listing under the name {series!r}")
        return self._listings / series[:2] / series

    def _write(self, path: Path, content: bytes) -> None:
        unfinished, fd = self._scratch.create()
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                self._scratch.flush(file.fileno())
            move(unfinished, path)
        except BaseException:
            remove_quietly(unfinished)
            raise


def _reason(exc: OSError | ValueError) -> str:
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
