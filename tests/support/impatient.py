"""`idcfs` as it is, but with little patience, so that a test of faults takes seconds.

python -m tests.support.impatient prefetch …
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from idcfs.cli.main import main
from idcfs.prefetch import job, sources
from idcfs.prefetch.patience import PatiencePolicy
from idcfs.store.retry import RetryPolicy
from idcfs.store.s3 import S3Store

if TYPE_CHECKING:
    from types import ModuleType

ATTEMPTS = 2
TRIES = 2
QUIET_S = 1.0


def be_impatient() -> None:
    """Shorten all waiting."""
    retry = RetryPolicy(attempts=ATTEMPTS, first_pause_s=0.05, longest_pause_s=0.1)
    replace(
        sources,
        "S3Store",
        functools.partial(S3Store, connect_timeout_s=2.0, read_timeout_s=2.0, retry=retry),
    )
    replace(
        job,
        "PatiencePolicy",
        functools.partial(
            PatiencePolicy, tries=TRIES, first_pause_s=0.2, longest_pause_s=0.5, quiet_s=QUIET_S
        ),
    )


def replace(module: ModuleType, name: str, value: object) -> None:
    """Put something in the place of what a module has by this name, or fail."""
    assert name in vars(module)
    setattr(module, name, value)


if __name__ == "__main__":
    be_impatient()
    main()
