"""How much the kernel reads ahead of the programs that use a mount."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from idcfs.mount.mountpoints import find_mount

logger = logging.getLogger(__name__)

_READAHEAD_KIB = 1024
"""The kernel's 128 cuts the 256 KiB of a slide's tile into two requests, the second of which
looks to it like the beginning of a sequential read, so that it asks for 508 KiB in all. The
first 64 KiB of a file are asked for as 128 with either."""

_SETTINGS = Path("/sys/class/bdi")


def may_raise_readahead() -> bool:
    """Tell whether this process may change how far ahead the kernel reads: mostly root may."""
    settings = _SETTINGS.glob("*/read_ahead_kb")
    return any(os.access(setting, os.W_OK) for setting in settings)


def raise_readahead(mountpoint: Path) -> None:
    """Have the kernel read further ahead at a mount, where that is permitted.

    Once the mount has answered: before, the kernel has yet to set it. The mount is not asked for
    its device, since this may be its daemon (`mount.question`).
    """
    mounted = find_mount(mountpoint)
    if mounted is None:
        return
    try:
        (_SETTINGS / f"0:{mounted.device}" / "read_ahead_kb").write_text(f"{_READAHEAD_KIB}\n")
    except OSError as exc:
        logger.debug("the kernel's readahead stays as it is: %s", exc)
