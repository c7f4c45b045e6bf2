"""The NCI Imaging Data Commons as an ordinary directory tree.

Names are imported when they are used, so that a command pays only for the rooms it enters.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.api.files import File
    from idcfs.api.index import Index
    from idcfs.api.prefetching import IncompletePrefetchError, Progress, Report
    from idcfs.api.query import Query
    from idcfs.api.selection import Selection
    from idcfs.errors import IdcfsError, UsageError

__all__ = [
    "File",
    "IdcfsError",
    "IncompletePrefetchError",
    "Index",
    "Progress",
    "Query",
    "Report",
    "Selection",
    "UsageError",
    "__version__",
]

__version__ = "0.1.0"

_MODULES = {
    "File": "idcfs.api.files",
    "IdcfsError": "idcfs.errors",
    "IncompletePrefetchError": "idcfs.api.prefetching",
    "Index": "idcfs.api.index",
    "Progress": "idcfs.api.prefetching",
    "Query": "idcfs.api.query",
    "Report": "idcfs.api.prefetching",
    "Selection": "idcfs.api.selection",
    "UsageError": "idcfs.errors",
}

if not TYPE_CHECKING:  # a checker would take every other name for one of these

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
