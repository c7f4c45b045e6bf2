"""Brings listings and bytes: from the cache if it has them, else from the store, once.

Single flight, verification, back-pressure and the fall-back to the network when
the cache fails live here. It knows series and objects, not directories or
inodes. Its table state is touched on the trio thread only; blocking calls of
the store and the cache go to worker threads, each under the limiter of its
kind.
"""

from idcfs.fetch.carrier import Carrier
from idcfs.fetch.download import Brought
from idcfs.fetch.fetcher import INTEGRITY_TRIES, MAX_TRANSFERS, Fetcher, Limiters
from idcfs.fetch.reader import ObjectReader
from idcfs.fetch.streams import EXTRA_BYTES

__all__ = [
    "EXTRA_BYTES",
    "INTEGRITY_TRIES",
    "MAX_TRANSFERS",
    "Brought",
    "Carrier",
    "Fetcher",
    "Limiters",
    "ObjectReader",
]
