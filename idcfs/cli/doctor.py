"""`idcfs doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import click

from idcfs.cli.options import NonEmptyPath, endpoint_options, index_option, log_option
from idcfs.config import cache_directory

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@index_option
@endpoint_options
@click.option("--cache-dir", type=NonEmptyPath(), help="The cache directory to check.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON array.")
@log_option
def doctor(
    index_path: Path | None,
    endpoint_url: str | None,
    source: Literal["aws", "gcs"],
    cache_dir: Path | None,
    as_json: bool,
) -> int:
    """Find what this machine lacks, and the command that mends it.

    Exits with 1 if anything is missing that a mount needs.
    """
    from idcfs.mount.checkup import examine

    findings = examine(
        index_path=index_path,
        endpoint_url=endpoint_url,
        source=source,
        cache_dir=cache_dir or cache_directory(),
    )
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok  " if finding.ok else ("FAIL" if finding.needed else "note")
            click.echo(f"{mark}  {finding.subject}: {finding.detail}")
            if not finding.ok:
                click.echo(f"      mend it with: {finding.remedy}")
    return int(any(finding.needed and not finding.ok for finding in findings))
