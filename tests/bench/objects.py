"""Which series of the real index the benchmark reads, and the objects that stand for them.

The series are chosen from the installed index by what they are (a CT series of 200
instances, the widest series of all), in an order that one release always answers alike.
Their objects are small valid DICOM files of the wanted size, full of random bytes, so that
nothing on the way can compress them, and the same at every build. Names are UUIDs, as in
the IDC.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

RECIPE: Final = 1
"""Goes up whenever the same series would get other objects: kept stores are then refilled."""

CT_BYTES: Final = 528_000
SMALL_BYTES: Final = 5_000
WIDE_BYTES: Final = 1_000
"""The files of the widest series are only ever listed."""
SLIDE_BYTES: Final = 512 << 20
THUMBNAIL_BYTES: Final = 65_536

_TILE: Final = 256
_ELEMENT_HEAD_BYTES: Final = 12
"""Tag, VR, two reserved bytes and length of a long element in Explicit VR Little Endian."""
_HEAD_ROOM_BYTES: Final = 800
"""More than the attributes and the heads of the last two elements take."""
_CHUNK_BYTES: Final = 1 << 20
_MARK: Final = "2.25.1" + "0" * 38
"""Stands in a template where an instance's UID goes; all of them are as long."""
_NUMBER_MARK: Final = "999999"


@dataclass(frozen=True, slots=True)
class BenchSeries:
    """One series of the index, and the size of the files that it gets here."""

    uuid: str
    bucket: str
    tree_path: str
    """Where idcfs shows it under the default template."""
    series_instance_uid: str
    instance_count: int
    file_bytes: int

    def name(self, number: int) -> str:
        """Return the file name of instance `number` (from 1)."""
        return f"{uuid.uuid5(uuid.UUID(self.uuid), f'instance {number}')}.dcm"

    @property
    def numbers(self) -> range:
        """The numbers of its instances."""
        return range(1, self.instance_count + 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The file names of all instances, sorted."""
        return tuple(sorted(self.name(number) for number in self.numbers))

    @property
    def size_bytes(self) -> int:
        """The bytes of all its files."""
        return sum(self.size_of(number) for number in self.numbers)

    def size_of(self, number: int) -> int:
        """Return the length of one file. A slide's other instances are thumbnails."""
        if self.file_bytes == SLIDE_BYTES and number > 1:
            return THUMBNAIL_BYTES
        return self.file_bytes

    def content(self, number: int) -> bytes:
        """Return the bytes of one file."""
        return b"".join(self.pieces(number))

    def pieces(self, number: int) -> Iterator[bytes]:
        """Yield the bytes of one file in pieces, for those that are large."""
        shape = _shape(self.size_of(number), slide=self.file_bytes == SLIDE_BYTES)
        template = _template(self.series_instance_uid, shape)
        digest = hashlib.sha256(f"{RECIPE} {self.uuid} {number}".encode()).digest()
        uid = f"2.25.{10**38 + int.from_bytes(digest[:15], 'big')}"
        head = template.replace(_MARK.encode(), uid.encode())
        yield head.replace(_NUMBER_MARK.encode(), b"%06d" % number)
        noise = random.Random(digest)
        yield _element_head(b"\xe0\x7f\x10\x00", b"OW", shape.pixel_bytes)
        for start in range(0, shape.pixel_bytes, _CHUNK_BYTES):
            yield noise.randbytes(min(_CHUNK_BYTES, shape.pixel_bytes - start))
        padding = self.size_of(number) - len(head) - shape.pixel_bytes - 2 * _ELEMENT_HEAD_BYTES
        yield _element_head(b"\xfc\xff\xfc\xff", b"OB", padding)
        yield noise.randbytes(padding)


@dataclass(frozen=True, slots=True)
class Objects:
    """The series by the part that they play."""

    ct: BenchSeries
    """200 CT files, for `ls`, `cp` and the headers."""
    other_ct: BenchSeries
    """200 more, for eight `cp` at once."""
    cohort: tuple[BenchSeries, ...]
    """Ten more: 2,000 CT files."""
    small: tuple[BenchSeries, ...]
    """About 20,000 files of 5 kB."""
    wide: BenchSeries
    """The widest series of the index."""
    slide: BenchSeries
    """Its instance 1 has 512 MiB."""

    @property
    def all(self) -> tuple[BenchSeries, ...]:
        """Every series, the largest files first."""
        return (self.slide, self.ct, self.other_ct, *self.cohort, *self.small, self.wide)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The picture that fills a file of some length as far as it goes."""

    side: int
    samples: int
    frames: int

    @property
    def pixel_bytes(self) -> int:
        return self.side * self.side * (3 if self.samples == 3 else 2) * self.frames


def _shape(size_bytes: int, *, slide: bool) -> _Shape:
    """Return a picture that leaves room for the attributes in a file of `size_bytes`."""
    room = size_bytes - _HEAD_ROOM_BYTES
    frame_bytes = 3 * _TILE * _TILE
    if slide and room >= frame_bytes:
        return _Shape(_TILE, 3, room // frame_bytes)
    return _Shape(min(512, math.isqrt(room // 2)), 1, 1)


@lru_cache(maxsize=128)
def _template(series_instance_uid: str, shape: _Shape) -> bytes:
    """Return a file up to its pixels, with marks where the instances differ."""
    grey = shape.samples == 1
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage if grey else VLWholeSlideMicroscopyImageStorage
    dataset.SOPInstanceUID = _MARK
    dataset.Modality = "CT" if grey else "SM"
    dataset.PatientName = "Noise^Idcfs"
    dataset.PatientID = "noise"
    dataset.SeriesInstanceUID = series_instance_uid
    dataset.InstanceNumber = _NUMBER_MARK
    dataset.SamplesPerPixel = shape.samples
    dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
    if not grey:
        dataset.PlanarConfiguration = 0
        dataset.NumberOfFrames = shape.frames
    dataset.Rows = dataset.Columns = shape.side
    dataset.BitsAllocated = dataset.BitsStored = 16 if grey else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = io.BytesIO()
    dcmwrite(written, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return written.getvalue()


def _element_head(tag: bytes, vr: bytes, length_bytes: int) -> bytes:
    return tag + vr + b"\0\0" + length_bytes.to_bytes(4, "little")
