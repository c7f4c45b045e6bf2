"""The objects that stand for real series, and the programs that read them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from tests.bench.objects import CT_BYTES, SLIDE_BYTES, SMALL_BYTES, WIDE_BYTES, BenchSeries
from tests.bench.readers import digest, places, read_again, read_heads, read_random, read_through

if TYPE_CHECKING:
    from pathlib import Path

UUID = "0a1b2c3d-0000-4000-8000-000000000001"


def make_series(file_bytes: int, count: int = 3) -> BenchSeries:
    return BenchSeries(UUID, "idc-open-data", "c/p/s/CT_1", "1.2.3.4", count, file_bytes)


@pytest.mark.parametrize("file_bytes", [CT_BYTES, SMALL_BYTES, WIDE_BYTES])
def test_files_are_dicom_of_exactly_the_wanted_size(file_bytes: int) -> None:
    series = make_series(file_bytes)
    contents = [series.content(number) for number in series.numbers]
    assert [len(content) for content in contents] == [file_bytes] * 3
    datasets = [dcmread(io.BytesIO(content)) for content in contents]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 3
    assert [dataset.InstanceNumber for dataset in datasets] == [1, 2, 3]
    for dataset in datasets:
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert len(dataset.PixelData) == 2 * dataset.Rows * dataset.Columns


def test_files_are_the_same_at_every_build_and_no_two_are_alike() -> None:
    series = make_series(SMALL_BYTES)
    assert series.content(1) == series.content(1)
    assert series.content(1)[-4000:] != series.content(2)[-4000:]
    assert len(set(series.names)) == 3


def test_a_slide_has_one_large_instance() -> None:
    slide = make_series(SLIDE_BYTES)
    assert [slide.size_of(number) for number in slide.numbers] == [SLIDE_BYTES, 65536, 65536]
    pieces = slide.pieces(1)
    head = next(pieces) + next(pieces)
    dataset = dcmread(io.BytesIO(head), stop_before_pixels=True)
    frame_bytes = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    room = SLIDE_BYTES - frame_bytes * int(dataset.NumberOfFrames)
    assert len(head) < room < frame_bytes + 2000


@pytest.mark.parametrize("alignment", [1, 4096])
def test_random_places_lie_within_the_file_and_are_always_the_same(alignment: int) -> None:
    chosen = places(1 << 20, 4096, 100, 2, alignment)
    assert chosen == places(1 << 20, 4096, 100, 2, alignment)
    assert chosen != places(1 << 20, 4096, 100, 3, alignment)
    assert all(0 <= at <= (1 << 20) - 4096 and at % alignment == 0 for at in chosen)


def test_the_readers_tell_the_checksum_of_what_they_read(tmp_path: Path) -> None:
    for name, content in (("b", b"2" * 9000), ("a", b"1" * 100)):
        (tmp_path / name).write_bytes(content)
    heads = read_heads(str(tmp_path), "1000")
    assert heads["sha256"] == digest([b"1" * 100, b"2" * 1000])
    noise = make_series(SMALL_BYTES).content(1)
    path = tmp_path / "c"
    path.write_bytes(noise)
    assert read_through(str(path), "999")["sha256"] == digest([noise])
    assert read_again(str(path), "999", "3")["sha256"] == digest([noise])
    found = read_random(str(path), "64", "5", "2", "1")
    offsets = [at for reader in range(2) for at in places(len(noise), 64, 5, reader, 1)]
    assert found["sha256"] == digest(noise[at : at + 64] for at in offsets)
