"""Who takes part in what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from tests.bench.__main__ import Plan, choose_peers, choose_rows, main
from tests.bench.rows import ROWS

if TYPE_CHECKING:
    from pathlib import Path


def plan(peers: str | None = None) -> Plan:
    return Plan(ROWS, rounds=3, peers=choose_peers(peers, quick=False), quick=False)


def test_another_contestant_begins_in_each_round() -> None:
    (row,) = choose_rows("prefetch-loopback", quick=False)
    rounds = [plan().contestants(row, number) for number in range(3)]
    assert {names[0] for names in rounds} == set(row.contestants)
    assert all(set(names) == set(row.contestants) for names in rounds)


def test_a_row_of_one_round_and_peers_not_asked_for_stay_out() -> None:
    (find, cp) = choose_rows("find, cp", quick=False)
    assert plan().contestants(find, 0) == ("idcfs",)
    assert plan().contestants(find, 1) == ()
    assert plan("s5cmd").contestants(cp, 0) == ("idcfs", "s5cmd")
    assert plan("").contestants(cp, 0) == ("idcfs",)


def test_only_all_rows_with_all_peers_are_a_whole_run() -> None:
    assert plan().is_whole
    assert not plan("s5cmd").is_whole
    assert not Plan(ROWS[:3], rounds=3, peers=None, quick=False).is_whole


def test_unknown_names_are_refused() -> None:
    with pytest.raises(click.UsageError, match=r"^no such row: cq; there are ls, cp,"):
        choose_rows("cp,cq", quick=False)
    with pytest.raises(click.UsageError, match=r"^no such peer: rsync; there are idc-index,"):
        choose_peers("rsync", quick=False)


def test_a_file_that_is_no_results_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("", "[]", '{"samples": []}', '{"samples": [{}], "conditions": {}}'):
        path.write_text(text)
        outcome = CliRunner().invoke(main, ["--again", str(path)])
        assert outcome.exit_code == 1
        assert f"{path} is not the results.json of a run" in outcome.output
