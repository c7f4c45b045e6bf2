"""Content is checked by the cheapest checksum that is offered and can be computed."""

from __future__ import annotations

import hashlib
import importlib
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import ContentCheck
from idcfs.errors import IntegrityError
from idcfs.model import Checksum, Extent
from tests.support.stores import make_content, make_ref

if TYPE_CHECKING:
    from idcfs.model import ObjectRef

CONTENT = make_content(10_000)
PLAIN = make_ref(CONTENT)
IN_PARTS = make_ref(CONTENT, etag="0123456789abcdef0123456789abcdef-2")


def checksum(algorithm: str, content: bytes = CONTENT) -> Checksum:
    """Compute a checksum without the code under test."""
    if algorithm == "crc32":
        return Checksum(algorithm, zlib.crc32(content).to_bytes(4, "big"))
    if algorithm in ("sha1", "sha256"):
        return Checksum(algorithm, hashlib.new(algorithm, content).digest())
    functions = importlib.import_module("awscrt.checksums")
    length = {"crc64nvme": 8, "crc32c": 4}[algorithm]
    return Checksum(algorithm, getattr(functions, algorithm)(content).to_bytes(length, "big"))


def judge(ref: ObjectRef, content: bytes, *offered: Checksum, step: int = 999) -> None:
    check = ContentCheck(ref, ref.whole)
    check.expect(offered)
    for start in range(0, len(content), step):
        check.update(memoryview(content)[start : start + step])
    check.finish()


ALGORITHMS = ["crc64nvme", "crc32c", "crc32", "sha1", "sha256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_checksum_tells_right_from_wrong(algorithm: str) -> None:
    damaged = bytearray(CONTENT)
    damaged[5000] ^= 1
    for ref in (PLAIN, IN_PARTS):
        judge(ref, CONTENT, checksum(algorithm))
        with pytest.raises(IntegrityError, match=rf"(?s)a\.dcm.*{algorithm.upper()}"):
            judge(ref, bytes(damaged), checksum(algorithm))


@pytest.mark.parametrize(
    ("algorithm", "value"), [("crc64nvme", "ae8b14860a799888"), ("crc32c", "e3069283")]
)
def test_the_values_are_those_of_the_standards(algorithm: str, value: str) -> None:
    content = b"123456789"
    ref = make_ref(content, etag="")
    judge(ref, content, Checksum(algorithm, bytes.fromhex(value)), step=4)


def test_the_cheapest_one_counts() -> None:
    wrong = Checksum("sha256", bytes(32))
    judge(PLAIN, CONTENT, wrong, checksum("crc32"))
    with pytest.raises(IntegrityError, match="SHA256"):
        judge(PLAIN, CONTENT, wrong)


def test_without_the_package_the_next_best_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "awscrt.checksums", None)
    wrong = Checksum("crc64nvme", bytes(8))
    judge(PLAIN, CONTENT, wrong, checksum("crc32"))
    judge(PLAIN, CONTENT, wrong)  # by its MD5
    with pytest.raises(IntegrityError, match="MD5"):
        judge(PLAIN, bytes(len(CONTENT)), wrong)
    judge(IN_PARTS, bytes(len(CONTENT)), wrong)  # nothing is left but the length


def test_a_part_of_an_object_is_not_held_against_the_whole_ones_checksum() -> None:
    check = ContentCheck(PLAIN, Extent(0, 10))
    check.expect([Checksum("crc32", bytes(4))])
    check.update(memoryview(CONTENT)[:10])
    check.finish()


def test_the_length_is_enough_where_that_was_asked_for() -> None:
    check = ContentCheck(PLAIN, PLAIN.whole, verify_content=False)
    check.expect([Checksum("crc32", bytes(4))])
    check.update(memoryview(bytes(len(CONTENT))))
    check.finish()
