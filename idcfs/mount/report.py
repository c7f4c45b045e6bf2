"""What a mount tells of itself: as JSON, and in the text form of Prometheus."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import idcfs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from idcfs.fetch import Fetcher, Limiters
    from idcfs.mount.metered import MeteredStore
    from idcfs.mount.trees import Showing
    from idcfs.store.outage import Outage
    from idcfs.vfs.figures import Latencies, RequestFigures

_QUANTILES = (50, 90, 99)


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
        return ("\n".join(_metrics(self.figures())) + "\n").encode()


def _summary(latencies: Latencies) -> dict[str, float | int | None]:
    percentiles = {f"p{percent}_s": latencies.percentile(percent) for percent in _QUANTILES}
    return {"count": latencies.count, "total_s": round(latencies.total_s, 6), **percentiles}


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _metrics(figures: dict[str, Any]) -> Iterator[str]:
    store, waiting = figures["store"], figures["requests_under_way"]
    about = {"version": figures["idcfs_version"], "index": figures["index_version"]}
    yield from _one("info", "gauge", "Which idcfs and which index this is.", {_labels(about): 1})
    for name, kind, text, value in (
        ("uptime_seconds", "gauge", "Time since it was mounted.", figures["uptime_s"]),
        ("memory_bytes", "gauge", "Resident memory.", figures["memory_bytes"]),
        ("series", "gauge", "Series that are shown.", figures["series"]),
        ("requests_under_way", "gauge", "Requests not yet answered.", waiting),
        ("read_bytes_total", "counter", "Bytes given to readers.", figures["read_bytes"]),
        ("cache_bytes_total", "counter", "Of these, from the cache.", figures["cache_bytes"]),
        ("store_bytes_total", "counter", "The others, fetched first.", figures["store_bytes"]),
        ("objects_read_total", "counter", "Objects read from.", figures["objects"]["read"]),
        ("objects_fetched_total", "counter", "Of these, fetched.", figures["objects"]["fetched"]),
        ("store_received_bytes_total", "counter", "Bytes fetched.", store["received_bytes"]),
        ("store_under_way", "gauge", "Fetches and listings under way.", store["under_way"]),
        (
            "store_reachable",
            "gauge",
            "0 while no connection can be made.",
            int(store["unreachable_s"] is None),
        ),
        ("store_queued", "gauge", "Fetches and listings that wait.", store["queued"]),
    ):
        yield from _one(name, kind, text, {"": value})
    yield from _summaries("request_seconds", "Time to answer.", figures["requests"])
    yield from _summaries("store_request_seconds", "Time of the store.", store["requests"])
    for name, errors in (
        ("errors_total", figures["errors"]),
        ("store_errors_total", store["errors"]),
    ):
        values = {_labels({"error": error}): count for error, count in errors.items()}
        yield from _one(name, "counter", "Errors by kind.", values)


def _one(name: str, kind: str, text: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP idcfs_{name} {text}"
    yield f"# TYPE idcfs_{name} {kind}"
    for labels, value in values.items():
        yield f"idcfs_{name}{labels} {value}"


def _summaries(name: str, text: str, kinds: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from _one(name, "summary", text, {})
    for kind, summary in kinds.items():
        for percent in _QUANTILES:
            if (value := summary[f"p{percent}_s"]) is not None:
                labels = _labels({"kind": kind, "quantile": str(percent / 100)})
                yield f"idcfs_{name}{labels} {value}"
        yield f"idcfs_{name}_sum{_labels({'kind': kind})} {summary['total_s']}"
        yield f"idcfs_{name}_count{_labels({'kind': kind})} {summary['count']}"


def _labels(labels: Mapping[str, str]) -> str:
    escaped = {
        key: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for key, text in labels.items()
    }
    return "{" + ",".join(f'{key}="{text}"' for key, text in escaped.items()) + "}"
