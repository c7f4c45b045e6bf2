"""SQL expressions over the index's columns that several modules share."""

from __future__ import annotations

from idcfs.catalog.layout_file import ABSENT

# Amazon's rules for bucket names; what breaks them could steer a request elsewhere.
BUCKET_PATTERN = "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"

INSTANCES = f"""
    CASE WHEN TRY_CAST(instanceCount AS BIGINT) BETWEEN 0 AND {ABSENT - 1}
    THEN TRY_CAST(instanceCount AS BIGINT) ELSE {ABSENT} END"""
"""The number of instances, ABSENT where the index does not give a sensible one."""

SIZE = """
    CASE WHEN TRY_CAST(series_size_MB AS DOUBLE) BETWEEN 0 AND 9e9
    THEN CAST(round(TRY_CAST(series_size_MB AS DOUBLE) * 1e6) AS BIGINT) ELSE 0 END"""
"""Bytes. The index's megabytes are bytes over 10**6, exact in a double below 2**53 bytes."""

VALID_UUID = (
    "coalesce(CAST(TRY_CAST(crdc_series_uuid AS UUID) AS VARCHAR) = crdc_series_uuid, false)"
)
"""Whether the UUID is one, in its canonical form; it becomes part of object keys."""

VALID_BUCKET = f"coalesce(regexp_full_match(aws_bucket, '{BUCKET_PATTERN}'), false)"
