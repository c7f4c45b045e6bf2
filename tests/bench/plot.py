"""Draws how many times as long as idcfs the others take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.bench.rows import ROWS
from tests.bench.targets import OURS, medians

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.bench.targets import Sample

_COLOURS: Final = ("#4878a8", "#9ab8d3", "#b8b8b8", "#d98c3f", "#7a5c99", "#6b9e6b", "#a85050")


def times_as_long(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """Return each peer's median time over ours, by row and peer."""
    return {
        row: {
            contestant: metrics["seconds"] / by_contestant[OURS]["seconds"]
            for contestant, metrics in by_contestant.items()
            if not contestant.startswith(OURS)
        }
        for row, by_contestant in medians(samples).items()
        if OURS in by_contestant and len(by_contestant) > 1
    }


def draw(samples: Iterable[Sample], path: Path) -> None:
    """Write the plot as SVG. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "idcfs", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot as plt

    ratios = times_as_long(samples)
    rows = [row for row in ROWS if row.name in ratios]
    peers = list(
        dict.fromkeys(peer for row in rows for peer in row.contestants if peer in ratios[row.name])
    )
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.45 * len(rows)))
    height = 0.8 / max(1, max(len(by_peer) for by_peer in ratios.values()))
    for at, row in enumerate(rows):
        present = [peer for peer in peers if peer in ratios[row.name]]
        for place, peer in enumerate(present):
            y = at + (place - (len(present) - 1) / 2) * height
            colour = _COLOURS[peers.index(peer) % len(_COLOURS)]
            axes.barh(y, ratios[row.name][peer] - 1, height, left=1, color=colour, label=peer)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel("time of the others ÷ time of idcfs; to the right of 1×, idcfs is faster")
    handles, labels = axes.get_legend_handles_labels()
    legend = dict(zip(labels, handles, strict=True))
    axes.legend(
        legend.values(),
        legend.keys(),
        loc="upper center",
        bbox_to_anchor=(0.5, 1.1),
        ncols=4,
        frameon=False,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
