"""Reads the checksums of a whole object that S3 sends with it, where it has any."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from idcfs.model import CHECKSUM_BYTES, Checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

ASKING = "x-amz-checksum-mode: ENABLED\r\n"
"""The header that asks for them. S3 sends them with whole objects only, not with ranges."""


def offered_checksums(headers: Mapping[str, str]) -> tuple[Checksum, ...]:
    """Return the checksums in an answer's headers that are of the whole object's bytes.

    Passes over those of an object uploaded in parts, which are made of its parts'
    checksums ("COMPOSITE", with a dash and their number), and whatever cannot be one.
    """
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return ()
    found = []
    for algorithm, length in CHECKSUM_BYTES.items():
        try:
            value = base64.b64decode(headers[f"x-amz-checksum-{algorithm}"], validate=True)
        except (KeyError, binascii.Error, ValueError):
            continue
        if len(value) == length:
            found.append(Checksum(algorithm, value))
    return tuple(found)
