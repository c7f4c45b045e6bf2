"""What can go wrong in a benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """A workload could not be run, or a contestant read something else than is stored."""


class UnavailableError(BenchError):
    """A contestant or a permission is not there on this machine; the row goes without it."""
