"""The command behind `make bench`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import platformdirs

from idcfs.errors import IdcfsError
from tests.bench.bench import Bench
from tests.bench.choice import choose_objects
from tests.bench.downloads import REPOSITORY
from tests.bench.errors import BenchError
from tests.bench.links import measure_link, serve_links
from tests.bench.machine import describe_machine, load_average, versions
from tests.bench.mounts import compile_layouts, mount_peers
from tests.bench.plot import draw
from tests.bench.report import Conditions, figure_table, target_table, write_report
from tests.bench.rows import QUICK_PEERS, ROWS
from tests.bench.store import serve_store
from tests.bench.targets import OURS, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.rows import Row


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    rows: tuple[Row, ...]
    rounds: int
    peers: frozenset[str] | None
    """None for all."""
    quick: bool
    left_out: dict[str, str] = field(default_factory=dict)
    """Filled as the run goes: what could not be measured, and why."""

    @property
    def is_whole(self) -> bool:
        """Whether it is all that `make bench` measures by default."""
        return self.rows == ROWS and self.peers is None and not self.quick

    def contestants(self, row: Row, number: int) -> tuple[str, ...]:
        """Return who takes part in a row; in each round another one begins."""
        chosen = tuple(
            name
            for name in row.contestants
            if (self.peers is None or name.startswith(OURS) or name in self.peers)
            and number < row.rounds_of(name)
        )
        first = number % max(1, len(chosen))
        return chosen[first:] + chosen[:first]


@click.command(epilog=f"Rows: {', '.join(row.name for row in ROWS)}.")
@click.option("--rows", help="Only these, separated by commas.")
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--without-peers", is_flag=True, help="Measure idcfs only.")
@click.option("--peers", help="Measure idcfs and these only, separated by commas.")
@click.option("--quick", is_flag=True, help="The smallest rows, fewer files, one round.")
@click.option("--write", is_flag=True, help="Write docs/ even though not all is measured.")
@click.option(
    "--again",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Measure nothing: write docs/ from the results.json of an earlier run.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(platformdirs.user_cache_dir("idcfs-bench")),
    help="Where the filled store is kept, and caches and downloads go.",
)
def main(
    rows: str | None,
    rounds: int,
    without_peers: bool,
    peers: str | None,
    quick: bool,
    write: bool,
    again: Path | None,
    directory: Path,
) -> None:
    """Measure idcfs and its peers, print the figures, and write docs/benchmarks.md.

    docs/ is left alone unless every row was measured with every peer.
    """
    if again is not None:
        _write_documents(*_load(again))
        return
    plan = Plan(
        rows=choose_rows(rows, quick=quick),
        rounds=1 if quick else rounds,
        peers=choose_peers("" if without_peers else peers, quick=quick),
        quick=quick,
    )
    try:
        samples, conditions = _measure(plan, directory.absolute())
    except (BenchError, IdcfsError) as exc:
        raise click.ClickException(str(exc)) from exc
    for line in ("", *target_table(samples), "", *figure_table(samples)):
        click.echo(line)
    _keep(samples, conditions, directory)
    if plan.is_whole or write:
        _write_documents(samples, conditions)
    for what, why in plan.left_out.items():
        click.echo(f"left out: {what}: {why}", err=True)
    sys.exit(bool(plan.left_out))


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def choose_rows(names: str | None, *, quick: bool) -> tuple[Row, ...]:
    """Return the rows to measure. Raises UsageError for a name that no row has."""
    by_name = {row.name: row for row in ROWS}
    if names is None:
        return tuple(row for row in ROWS if row.quick or not quick)
    if unknown := [name for name in _split(names) if name not in by_name]:
        raise click.UsageError(f"no such row: {', '.join(unknown)}; there are {', '.join(by_name)}")
    return tuple(by_name[name] for name in _split(names))


def choose_peers(names: str | None, *, quick: bool) -> frozenset[str] | None:
    """Return the peers to measure, None for all. Raises UsageError for an unknown one."""
    if names is None:
        return frozenset(QUICK_PEERS) if quick else None
    known = {name for row in ROWS for name in row.contestants}
    if unknown := [name for name in _split(names) if name not in known]:
        raise click.UsageError(
            f"no such peer: {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    return frozenset(_split(names))


def _measure(plan: Plan, directory: Path) -> tuple[list[Sample], Conditions]:
    """Set everything up, run the rows, and take everything down again."""
    load = load_average()
    home = directory / ("quick" if plan.quick else "full")
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        objects = choose_objects(home, quick=plan.quick)
        stored = stack.enter_context(serve_store(home, objects))
        links = stack.enter_context(serve_links(stored.port))
        peers = mount_peers(compile_layouts(links["plain"], home), stored.slide_path)
        stored.warm()
        slide = f"/{objects.slide.bucket}/{objects.slide.uuid}/{objects.slide.name(1)}"
        measured = {name: measure_link(link, slide) for name, link in links.items()}
        bench = Bench(stored, links, peers, home)
        stack.callback(bench.clear_away)
        samples = list(_run(bench, plan))
    conditions = Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        rounds=plan.rounds,
        quick=plan.quick,
        load_average=load,
        machine=describe_machine(),
        versions=versions(REPOSITORY),
        links=measured,
        left_out=plan.left_out,
    )
    return samples, conditions


def _run(bench: Bench, plan: Plan) -> Iterator[Sample]:
    """Yield a sample for each round, row and contestant, and note what could not be had."""
    for number in range(plan.rounds):
        for row in plan.rows:
            for contestant in plan.contestants(row, number):
                what = f"{row.name}, {contestant}"
                if what in plan.left_out:
                    continue
                told = f"{time.strftime('%H:%M:%S')} {number + 1}/{plan.rounds} {what}"
                try:
                    metrics = row.measure(bench, contestant)
                except BenchError as exc:
                    plan.left_out[what] = str(exc)
                    click.echo(f"{told}: {exc}", err=True)
                    continue
                click.echo(f"{told}: {metrics['seconds']:.2f} s")
                yield Sample(row.name, contestant, number, metrics)


def _keep(samples: Sequence[Sample], conditions: Conditions, directory: Path) -> None:
    """Leave the raw samples for whoever wants to look closer."""
    raw = {
        "conditions": asdict(conditions),
        "samples": [asdict(sample) for sample in samples],
    }
    path = directory / "results.json"
    path.write_text(json.dumps(raw, indent=1))
    click.echo(f"\nthe samples are in {path}")


def _load(path: Path) -> tuple[list[Sample], Conditions]:
    """Return what `_keep` has left. Raises ClickException for any other file."""
    try:
        raw = json.loads(path.read_text())
        return [Sample(**sample) for sample in raw["samples"]], Conditions(**raw["conditions"])
    except (ValueError, KeyError, TypeError) as exc:
        raise click.ClickException(f"{path} is not the results.json of a run: {exc!r}") from exc


def _write_documents(samples: Sequence[Sample], conditions: Conditions) -> None:
    docs = REPOSITORY / "docs"
    draw(samples, docs / "benchmarks.svg")
    (docs / "benchmarks.md").write_text(write_report(samples, conditions, "benchmarks.svg"))
    click.echo("wrote docs/benchmarks.md and docs/benchmarks.svg")


if __name__ == "__main__":
    main()
