"""Reading nginx's log."""

from __future__ import annotations

import pytest

from tests.bench.wire import Wire, read_log


def test_requests_and_bytes_are_added_up() -> None:
    log = ["GET 206 528343 /b/s/i.dcm\n", "GET 499 65536 /b/s/j.dcm\n", "HEAD 200 343 /b/a b\n"]
    assert read_log(log) == Wire(requests=3, size_bytes=528343 + 65536 + 343)
    assert read_log([]) == Wire()


@pytest.mark.parametrize("line", ["", "GET 200\n", "2024/01/01 [error] worker died here\n"])
def test_any_other_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_log([line])
