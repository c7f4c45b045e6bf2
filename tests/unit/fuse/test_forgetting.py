"""What the process does that has the kernel forget names, where a pipe stands for the device."""

from __future__ import annotations

import errno
import io
import os
import threading
from contextlib import closing

import pytest

from idcfs.fuse import forgetting


@pytest.mark.parametrize(
    ("names", "told_to_stop", "status", "forgotten"),
    [
        ([b"a", b"b"], False, 0, [b"a", b"b"]),
        ([b"a", b"b"], True, errno.EINTR, []),
        ([], True, 0, []),
    ],
)
def test_it_says_whether_names_are_left_when_it_is_told_to_stop(
    names: list[bytes], told_to_stop: bool, status: int, forgotten: list[bytes]
) -> None:
    told = io.BytesIO(b"".join(forgetting.record(1, name) for name in names))
    stopped = threading.Event()
    if told_to_stop:
        stopped.set()
    reading, device = os.pipe()
    with closing(os.fdopen(reading, "rb")) as pipe:
        assert forgetting._forget_all(told, device, stopped) == status
        os.close(device)
        heads, ends = forgetting._NOTICE.size, len(b"a\0")
        notices = pipe.read()
    found = [
        notices[begin + heads : begin + heads + ends].rstrip(b"\0")
        for begin in range(0, len(notices), heads + ends)
    ]
    assert found == forgotten
