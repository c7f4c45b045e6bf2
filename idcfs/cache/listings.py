"""How a listing looks on disk: one text file a series, checked by its own digest.

The first line carries the format's name and a BLAKE2 digest of the rest, so that a
file cut short or overwritten is never taken for a listing. Each further line is one
instance: size, modification time, ETag and name, separated by tabs, the name last.
"""

from __future__ import annotations

import hashlib

from idcfs.model import Instance, Listing, SeriesUUID

_MAGIC = b"idcfs-listing-1"
_DIGEST_BYTES = 16


def encode_listing(listing: Listing) -> bytes:
    """Return the file content that keeps `listing`."""
    body = "".join(
        f"{i.size_bytes}\t{i.mtime_ns}\t{i.etag}\t{i.name}\n" for i in listing.instances
    ).encode()
    return b"%s %s\n%s" % (_MAGIC, _digest(body), body)


def decode_listing(series: SeriesUUID, content: bytes) -> Listing | None:
    """Return the listing kept in `content`, or None if it is damaged or of another format."""
    header, _, body = content.partition(b"\n")
    if header != b"%s %s" % (_MAGIC, _digest(body)):
        return None
    try:
        lines = body.decode().split("\n")[:-1]
        return Listing(series, tuple(_decode_line(line) for line in lines))
    except ValueError:  # UnicodeDecodeError too: somebody else's idea of the format
        return None


def _decode_line(line: str) -> Instance:
    size_bytes, mtime_ns, etag, name = line.split("\t", 3)
    return Instance(name, int(size_bytes), int(mtime_ns), etag)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).hexdigest().encode()
