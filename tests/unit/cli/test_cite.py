"""`idcfs cite`, with and without a DOI service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.unit.cite.test_cite import service

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Idcfs = Callable[..., subprocess.CompletedProcess[str]]

IDC = "10.1148/rg.230180"
ENDED = "001de8f8-b263-4183-aa02-c4bffe219258"  # a series that no release since v23 has
LUNG = "10.7937/k9/tcia.2016.eln8ygle"


def test_cite_tells_citations_and_licences_without_a_network(idcfs: Idcfs) -> None:
    done = idcfs("cite", "4d_lung")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Hugo, G. D., Weiss, E.," in done.stdout
    assert "  original data of 4d_lung: 6,690 series, 183 GB\n" in done.stdout
    assert "  licence: CC BY 3.0  https://creativecommons.org/licenses/by/3.0/\n" in done.stdout
    assert IDC in done.stdout


def test_cite_is_readable_by_programs(idcfs: Idcfs) -> None:
    found = json.loads(idcfs("cite", "--collection-id", "4d_lung", "--json").stdout)
    (source,) = found["sources"]
    assert source["doi"] == LUNG
    assert source["licenses"][0]["name"] == "CC BY 3.0"
    assert source["collections"] == ["4d_lung"]
    assert source["series"] == json.loads(idcfs("size", "4d_lung", "--json").stdout)["series"]
    assert found["idc"]["doi"] == IDC
    assert found["unattributed_series"] == 0


def test_apa_citations_come_one_a_line(idcfs: Idcfs) -> None:
    done = idcfs("cite", "rider_pilot", "--format", "apa", "--doi-service", "http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_formats_come_from_the_service_or_else_from_the_index(idcfs: Idcfs) -> None:
    body = json.dumps({"title": "of the service"})
    with service({f"/{LUNG}": (200, "application/json", body)}) as (url, _):
        done = idcfs("cite", "4d_lung", "--format", "json", "--doi-service", url)
    assert done.returncode == 0
    assert [each["title"][:14] for each in json.loads(done.stdout)] == [
        "of the service",
        "National Cance",
    ]
    assert done.stderr.splitlines() == [
        f"idcfs: {IDC}: the DOI service answers 404",
        "idcfs: made of what the index says, without authors one by one: 1 of 2",
    ]


def test_what_has_no_source_is_told_and_fails(idcfs: Idcfs) -> None:
    done = idcfs("cite", ENDED)
    assert done.returncode == 1
    assert done.stderr == (
        "idcfs: no DOI is known for 1 series of acrin_nsclc_fdg_pet: they are in an earlier "
        "release only\n"
    )


def test_two_formats_are_one_too_many(idcfs: Idcfs) -> None:
    done = idcfs("cite", "4d_lung", "--json", "--format", "apa")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
