"""Tests, one directory a room; `support` holds what several share."""
