"""The figures of one mount in the text form that Prometheus scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    _Sample = tuple[str, Mapping[str, str], float]
    """What comes behind the family's name, labels, and the value."""

QUANTILES = (50, 90, 99)


def as_prometheus(figures: Mapping[str, Any]) -> bytes:
    """Return what `MountReport.figures` says, every line with the mount point.

    By that the mounts of one machine are told apart: its collector refuses all of them if
    two say the same.
    """
    place = {"mountpoint": figures["mountpoint"]}
    lines = [
        line
        for name, kind, text, samples in _families(figures)
        for line in _family(place, name, kind, text, samples)
    ]
    return ("\n".join(lines) + "\n").encode(errors="replace")


def _families(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Iterable[_Sample]]]:
    store, waiting = figures["store"], figures["requests_under_way"]
    about = {"version": figures["idcfs_version"], "index": figures["index_version"]}
    yield "info", "gauge", "Which idcfs and which index this is.", [("", about, 1)]
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
        yield name, kind, text, [("", {}, value)]
    yield "request_seconds", "summary", "Time to answer.", _summaries(figures["requests"])
    yield "store_request_seconds", "summary", "Time of the store.", _summaries(store["requests"])
    for name, errors in (
        ("errors_total", figures["errors"]),
        ("store_errors_total", store["errors"]),
    ):
        counts = [("", {"error": error}, count) for error, count in errors.items()]
        yield name, "counter", "Errors by kind.", counts


def _summaries(kinds: Mapping[str, Mapping[str, Any]]) -> Iterator[_Sample]:
    for kind, summary in kinds.items():
        for percent in QUANTILES:
            if (value := summary[f"p{percent}_s"]) is not None:
                yield "", {"kind": kind, "quantile": str(percent / 100)}, value
        yield "_sum", {"kind": kind}, summary["total_s"]
        yield "_count", {"kind": kind}, summary["count"]


def _family(
    place: Mapping[str, str], name: str, kind: str, text: str, samples: Iterable[_Sample]
) -> Iterator[str]:
    yield f"# HELP idcfs_{name} {text}"
    yield f"# TYPE idcfs_{name} {kind}"
    for suffix, labels, value in samples:
        yield f"idcfs_{name}{suffix}{_labels({**place, **labels})} {value}"


def _labels(labels: Mapping[str, str]) -> str:
    escaped = {
        key: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for key, text in labels.items()
    }
    return "{" + ",".join(f'{key}="{text}"' for key, text in escaped.items()) + "}"
