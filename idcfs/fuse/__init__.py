"""The door to the kernel: requests in, replies and errno out, no policy.

The only room that imports pyfuse3, and the only one that knows errno and that
kernel names are bytes. Everything here runs on the trio thread, but for
`forgetting`, which is a process of its own.
"""

from idcfs.fuse.adapter import Adapter
from idcfs.fuse.kernel import KernelCache
from idcfs.fuse.session import Session

__all__ = ["Adapter", "KernelCache", "Session"]
