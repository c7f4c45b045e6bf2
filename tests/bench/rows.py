"""Every workload: what it is called, who does it, and what idcfs is held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.bench import downloads, reading, tree
from tests.bench.downloads import LENGTH, LOOPBACK
from tests.bench.mounts import BARE
from tests.bench.reading import PLAIN_FILE
from tests.bench.targets import OURS, Target
from tests.bench.tree import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.bench import Bench
    from tests.bench.targets import Metrics

RCLONE: Final = "rclone"
STREAMS: Final = "rclone 16×4M"
S5CMD: Final = "s5cmd"
MOUNTS: Final = (OURS, RCLONE, STREAMS, "s3fs")
QUICK_PEERS: Final = (S5CMD,)

MEMORY_LIMIT_BYTES: Final = 300e6
"""Of the daemon, through every workload."""


@dataclass(frozen=True, slots=True)
class Row:
    """One workload."""

    name: str
    title: str
    measure: Callable[[Bench, str], Metrics]
    """Runs it once for a contestant. Raises BenchError."""
    contestants: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    limits: tuple[str, ...] = ()
    """Contestants that no target names, but that tell what can be reached: in every round."""
    rounds: int = 100
    """No more than so many: for what takes minutes."""
    quick: bool = False
    """Whether the quick run has it."""

    @property
    def label(self) -> str:
        """The name, by which options and the plot call it, and the title."""
        return f"*{self.name}*: {self.title}"

    def rounds_of(self, contestant: str) -> int:
        """Return in how many rounds, at most, a contestant takes part.

        Whom no target names is there for the picture: once is enough, unless it is a limit.
        """
        named = {name for target in self.targets for name in (target.ours, target.peer)}
        named.update(self.limits)
        return self.rounds if contestant in named else 1


_PREFETCH_TARGETS: Final = (
    Target("faster", 1.4, S5CMD, ours=LENGTH),
    Target("within", 1.0, S5CMD, metric="cpu_s", ours=LENGTH),
    Target("faster", 1.1, S5CMD),
)

ROWS: Final = (
    Row(
        "ls",
        "link, `ls -l` of a series of 200 files",
        partial(reading.list_long, link="link"),
        MOUNTS,
        (Target("faster", 50, RCLONE),),
        quick=True,
    ),
    Row(
        "cp",
        "link, `cp -r` of that series (528 kB files)",
        partial(reading.copy_series, link="link"),
        (*MOUNTS, S5CMD),
        (Target("faster", 12, RCLONE), Target("within", 1.3, S5CMD)),
    ),
    Row(
        "heads",
        "link, the first 64 KiB of each of the 200 files",
        partial(reading.read_heads, link="link"),
        MOUNTS,
        (Target("faster", 12, RCLONE), Target("below", 3, metric="wire_ratio")),
    ),
    Row(
        "parallel",
        "link, 8 parallel `cp` over a second series",
        partial(reading.copy_in_parallel, link="link"),
        MOUNTS,
        (Target("faster", 2.5, STREAMS),),
    ),
    Row(
        "seq",
        "link, 512 MiB sequential",
        partial(reading.read_slide, link="link"),
        (*MOUNTS, S5CMD),
        (Target("faster", 4, RCLONE), Target("faster", 1.2, STREAMS)),
    ),
    Row(
        "tiles",
        "link, random 256 KiB reads of a 512 MiB slide, 4 readers",
        partial(reading.read_tiles, link="link"),
        MOUNTS,
        (
            Target("faster", 2, RCLONE),
            Target("below", 1.5, metric="latency_delays"),
            Target("below", 2, metric="wire_ratio"),
        ),
    ),
    Row(
        "cached",
        "from the cache, page cache dropped: 512 MiB sequential, then 4,000 random 4 KiB",
        partial(reading.read_cached, link="plain"),
        (*MOUNTS, BARE, PLAIN_FILE),
        (
            Target("faster", 2, RCLONE),
            Target("faster", 2, RCLONE, metric="random_seconds"),
        ),
        limits=(BARE, PLAIN_FILE),
    ),
    Row(
        "reread",
        "re-read of 512 MiB from the page cache",
        partial(reading.reread, link="plain"),
        (OURS, RCLONE, PLAIN_FILE),
        (Target("faster", 0.9, PLAIN_FILE),),
    ),
    Row(
        "wide",
        "link, `ls` of the widest series (91,980 files)",
        partial(tree.list_wide, link="link"),
        (OURS, RCLONE, PAGES),
        (Target("faster", 1.5, RCLONE),),
    ),
    Row(
        "wide-slow",
        "100 ms link, `ls` of the widest series",
        partial(tree.list_wide, link="slow"),
        (OURS, PAGES),
        (Target("faster", 3, PAGES),),
    ),
    Row(
        "prefetch",
        "link, prefetch of 2,000 CT files",
        partial(downloads.prefetch_cohort, link="link"),
        (OURS, LENGTH, S5CMD, "idc-index"),
        _PREFETCH_TARGETS,
        quick=True,
    ),
    Row(
        "prefetch-loopback",
        "loopback, prefetch of 2,000 CT files",
        partial(downloads.prefetch_cohort, link=LOOPBACK),
        (OURS, LENGTH, S5CMD),
        _PREFETCH_TARGETS,
    ),
    Row(
        "small",
        "link, prefetch of 20,000 files of 5 kB",
        partial(downloads.prefetch_small, link="link"),
        (OURS, S5CMD),
        (Target("faster", 1.5, S5CMD),),
    ),
    Row(
        "start",
        "mount to first `ls`, whole index, layout compiled / first ever",
        tree.start,
        (OURS,),
        (Target("below", 1), Target("below", 4, metric="first_ever_seconds")),
        quick=True,
    ),
    Row(
        "nlst",
        "`ls` of `nlst` (26,410 entries)",
        tree.list_patients,
        (OURS,),
        (Target("below", 0.4),),
        quick=True,
    ),
    Row(
        "find",
        "`find` over all 1.3 million directories",
        tree.walk,
        (OURS,),
        (Target("below", 250e6, metric="daemon_bytes"),),
        rounds=1,
    ),
    Row(
        "commands",
        "commands that need no network, the slowest of four",
        tree.answer,
        (OURS,),
        (Target("below", 0.3),),
        quick=True,
    ),
)
