"""Values that every room shares, without behaviour.

Sizes are in bytes, times in nanoseconds since the epoch. Nothing here opens a
file, asks a network or imports another room.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

_MD5_HEX = re.compile("[0-9a-fA-F]{32}")

SeriesUUID = NewType("SeriesUUID", str)
"""A `crdc_series_uuid`: names one immutable version of a series."""

Bytes = bytes | bytearray
"""What a read gives: never changed once handed over, so that it need not be copied."""

DirectoryId = NewType("DirectoryId", int)
"""Names a directory of a tree, the same in every process that opens the same index with
the same template, whatever the selection. Below 2**40 in one tree, below 2**60 in several
that are shown side by side."""

ROOT = DirectoryId(0)

DEFAULT_TEMPLATE = "%collection_id/%PatientID/%StudyInstanceUID/%Modality_%SeriesInstanceUID"
"""idc-index's own default `dirTemplate`."""

NAME_LIMIT_BYTES = 255
"""NAME_MAX of Linux: what the name of a file or directory may have."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes in an object: `length` bytes from `offset`."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset just past the last byte."""
        return self.offset + self.length


CHECKSUM_BYTES = {"crc64nvme": 8, "crc32c": 4, "crc32": 4, "sha1": 20, "sha256": 32}
"""The checksums that S3 may keep of an object besides the ETag, and their lengths."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum of an object's whole content."""

    algorithm: str
    """One of `CHECKSUM_BYTES`, or `md5`."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Series:
    """One series as the index gives it: where its objects lie and how many to expect."""

    uuid: SeriesUUID
    bucket: str
    row: int
    """Position in the index. The same in every mount of one index release. Series of earlier
    releases follow the current ones."""
    instance_count: int | None
    """None for series of earlier releases: their index does not say."""
    size_bytes: int
    kept_number: int | None = None
    """Its number, if that comes from an earlier index which the same mount showed."""

    @property
    def number(self) -> int:
        """What inode numbers are built from: the row, in a mount that was never refreshed."""
        return self.row if self.kept_number is None else self.kept_number

    @property
    def prefix(self) -> str:
        """The prefix of the series' object keys, with its closing slash."""
        return f"{self.uuid}/"


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file of a series, as listing the series' prefix gives it."""

    name: str
    """The file name: the object's key after the series prefix."""
    size_bytes: int
    mtime_ns: int
    etag: str
    """Without quotes. The content's MD5 in hex, unless it was uploaded in parts."""

    @property
    def md5(self) -> str | None:
        """The content's MD5 in lower-case hex, where the ETag is one; else None.

        An object uploaded in parts has an ETag with a dash and the number of
        parts, which says nothing that could be checked against the content.
        """
        return self.etag.lower() if _MD5_HEX.fullmatch(self.etag) else None


@dataclass(frozen=True, slots=True)
class Listing:
    """The instances of one series, sorted by name.

    A series never changes under its UUID, so a complete listing is right for ever.
    """

    series: SeriesUUID
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object in the store, with what its content will be checked against."""

    bucket: str
    series: SeriesUUID
    instance: Instance

    @property
    def key(self) -> str:
        """The object's key in its bucket."""
        return f"{self.series}/{self.instance.name}"

    @property
    def url(self) -> str:
        """The object's `s3://` URL."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def whole(self) -> Extent:
        """The extent of the whole object."""
        return Extent(0, self.instance.size_bytes)


@dataclass(frozen=True, slots=True)
class TreeTotals:
    """What a tree holds in all, as the index says."""

    series_count: int
    instance_count: int
    size_bytes: int
