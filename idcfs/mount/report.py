"""What a mount tells of itself."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import idcfs
from idcfs.mount.metrics import QUANTILES, as_prometheus

if TYPE_CHECKING:
    from idcfs.fetch import Fetcher, Limiters
    from idcfs.mount.metered import MeteredStore
    from idcfs.mount.trees import Showing
    from idcfs.store.outage import Outage
    from idcfs.vfs.figures import Latencies, RequestFigures


@dataclass(frozen=True, slots=True)
class MountReport:
    """Reads off the counters of one mount, on the trio thread."""

    mountpoint: Path
    showing: Showing
    cache_dir: Path
    outage: Outage
    requests: RequestFigures
    store: MeteredStore
    fetcher: Fetcher
    limiters: Limiters
    began_s: float = field(default_factory=time.monotonic)

    def figures(self) -> dict[str, Any]:
        """Return all figures. Sizes are in bytes and times in seconds, as their names say."""
        fetched = self.fetcher.figures
        index, totals = self.showing.now.index, self.showing.now.tree.totals
        return {
            "mountpoint": str(self.mountpoint),
            "pid": os.getpid(),
            "idcfs_version": idcfs.__version__,
            "release": index.release,
            "index_version": index.version,
            "series": totals.series_count,
            "files": totals.instance_count,
            "bytes": totals.size_bytes,
            "uptime_s": round(time.monotonic() - self.began_s, 3),
            "memory_bytes": _memory_bytes(),
            "requests": {
                kind: _summary(each) for kind, each in sorted(self.requests.latencies.items())
            },
            "requests_under_way": self.requests.under_way,
            "errors": dict(sorted(self.requests.errors.items())),
            "read_bytes": self.requests.read_bytes,
            "cache_bytes": fetched.cache_bytes,
            "store_bytes": fetched.store_bytes,
            "objects": {
                "read": fetched.objects_read,
                "fetched": fetched.objects_missed,
                "hit_ratio": fetched.hit_ratio,
            },
            "store": {
                "received_bytes": self.store.received_bytes,
                "requests": {kind: _summary(each) for kind, each in self.store.latencies.items()},
                "under_way": self.store.under_way,
                "queued": sum(
                    limiter.statistics().tasks_waiting
                    for limiter in (self.limiters.objects, self.limiters.listings)
                ),
                "errors": dict(sorted(self.store.errors.items())),
                "unreachable_s": self.outage.lasts_s,
            },
            "cache_dir": str(self.cache_dir),
        }

    def as_json(self) -> bytes:
        """Return the figures as a JSON object."""
        return json.dumps(self.figures(), indent=2).encode() + b"\n"

    def as_metrics(self) -> bytes:
        """Return the figures as Prometheus scrapes them."""
        return as_prometheus(self.figures())


def _summary(latencies: Latencies) -> dict[str, float | int | None]:
    percentiles = {f"p{percent}_s": latencies.percentile(percent) for percent in QUANTILES}
    return {"count": latencies.count, "total_s": round(latencies.total_s, 6), **percentiles}


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
