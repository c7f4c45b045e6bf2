"""Figures for people."""

from __future__ import annotations


def human_bytes(count: int) -> str:
    """Return a size in decimal units, as disks are sold: "12.3 GB"."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{count} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3f}".rstrip("0").rstrip(".") + " TB"
