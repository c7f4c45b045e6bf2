"""Run `idc` against another endpoint. Run with the reference environment's Python.

The first argument is the endpoint, which idc-index otherwise has fixed; the others
are those of `idc`.
"""

from __future__ import annotations

import sys


def main() -> None:
    import idc_index.index  # type: ignore[import-not-found]  # not installed here

    idc_index.index.aws_endpoint_url = sys.argv[1]
    from idc_index.cli import idc  # type: ignore[import-not-found]  # not installed here

    idc.main(sys.argv[2:])


main()
