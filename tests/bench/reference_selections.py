"""One question to idc-index, for `selections.py`. Run with the reference environment's Python.

The first argument is the question, the second a file that it needs. idc-index asks the disk
before it answers; that is passed over, since no disk holds NLST. Prints the megabytes that
it would download and, where it makes s5cmd's manifest, the number of its lines.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path


def main() -> None:
    from idc_index.index import IDCClient  # type: ignore[import-not-found]  # not installed here

    logging.disable(logging.CRITICAL)
    question, path = sys.argv[1], Path(sys.argv[2])
    client = IDCClient()

    def tell_size(directory: str, megabytes: float) -> None:
        sys.stdout.write(f"{megabytes:.0f}\n")

    def count_lines(manifest_file: Path, **arguments: object) -> None:
        with manifest_file.open() as file:
            sys.stdout.write(f"{sum(1 for _ in file)}\n")
        manifest_file.unlink()

    client._validate_disk_space = tell_size
    client._s5cmd_run = count_lines
    with tempfile.TemporaryDirectory() as directory:
        if question == "start":
            pass
        elif question == "size":
            client.download_from_selection(directory, collection_id="nlst", dry_run=True)
        elif question == "write":
            client.download_from_selection(directory, collection_id="nlst")
        elif question == "read":
            client.download_from_manifest(str(path), directory)
        elif question == "identifiers":
            uuids = path.read_text().split()
            client.download_from_selection(directory, crdc_series_uuid=uuids, dry_run=True)
        else:
            sys.exit(f"no such question: {question}")


main()
