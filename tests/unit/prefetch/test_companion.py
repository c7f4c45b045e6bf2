"""Another process of a shared prefetch: what it tells of its log, and whom it tells nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from multiprocessing import Pipe

from idcfs.catalog.layouts import child_command
from idcfs.prefetch.companion import _Teller
from idcfs.prefetch.outcome import Outcome


def test_each_line_is_told_as_it_was_said() -> None:
    there, here = Pipe(duplex=False)
    with there, here:
        teller = _Teller(here)

        def say(name: str, level: int, words: str, *arguments: object) -> None:
            try:
                raise OSError("the cause")
            except OSError:
                cause = sys.exc_info()
            teller.handle(logging.LogRecord(name, level, "", 0, words, arguments, cause))

        say("idcfs.here", logging.ERROR, "%d files of %s", 2, "one")
        # An outage meets all processes, and only the first tells of it.
        say("idcfs.prefetch.patience", logging.WARNING, "nothing has come for %d s", 60)
        say("idcfs.prefetch.patience", logging.INFO, "trying again")
        teller.tell(Outcome(0, 0), 0)
        first, second = there.recv().log
    name, level, words = first
    assert (name, level) == ("idcfs.here", logging.ERROR)
    assert words.startswith("2 files of one\nTraceback (most recent call last):\n")
    assert words.endswith("\nOSError: the cause")
    assert second[1] == logging.INFO


def test_it_ends_in_silence_if_the_first_has_gone_before_it_began() -> None:
    command, environment = child_command("idcfs.prefetch.companion")
    (first, feed), (there, news) = Pipe(), Pipe(duplex=False)
    first.close()
    there.close()
    with feed, news:
        numbers = feed.fileno(), news.fileno()
        done = subprocess.run(
            [*command, *map(str, numbers)],
            env=environment,
            pass_fds=numbers,
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
