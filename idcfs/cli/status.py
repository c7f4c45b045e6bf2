"""`idcfs status`."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from idcfs.cli.console import human_bytes, printable
from idcfs.cli.options import MountedPath, log_option
from idcfs.cli.settings import name_option

if TYPE_CHECKING:
    from pathlib import Path

_WATCH_S = 2.0

_PATIENCE_S = 10.0
"""What asks a mount waits as long as its daemon hangs. A busy one answers within a second."""

_GIVING_UP_S = 2.0
"""Who is sent to ask is ended after that, and waited for; a command must not be gone before."""

_ANOTHERS = "it is another user's, who has not let others in"


@click.command()
@click.argument("mountpoint", type=MountedPath(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a mount.")
@click.option("--watch", is_flag=True, help="Tell it again every two seconds, until Ctrl-C.")
@name_option
@log_option
def status(mountpoint: Path | None, as_json: bool, watch: bool) -> int:
    """Tell how the mount at MOUNTPOINT fares, or every mount that you may look into.

    The same is in MOUNTPOINT/.idcfs/status.json, and for Prometheus in .idcfs/metrics.
    Exits with 1 if a mount does not answer.
    """
    while True:
        told = _read_all(_places(mountpoint))
        if mountpoint is None:
            told = [each for each in told if each.get("error") != _ANOTHERS]
        if watch and not as_json:
            click.clear()
        if as_json:
            click.echo(json.dumps(told))
        elif told:
            click.echo("\n\n".join("\n".join(_lines(each)) for each in told))
        else:
            click.echo("nothing is mounted")
        if not watch:
            return int(any("error" in each for each in told))
        time.sleep(_WATCH_S)


def _places(mountpoint: Path | None) -> list[Path]:
    from idcfs.mount.mountpoints import FILE_SYSTEM_TYPE, find_own
    from idcfs.mount_table import mounts

    if mountpoint is not None:
        return [find_own(mountpoint)]
    return [each.mountpoint for each in mounts() if each.type == FILE_SYSTEM_TYPE]


def _read_all(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the figures of mounts, or why there are none; one that hangs delays no other."""
    told = {path: _hanging(path) for path in paths}

    def read(path: Path) -> None:
        told[path] = _read(path)

    # As daemons, these do not keep the command from ending.
    readers = [threading.Thread(target=read, args=(path,), daemon=True) for path in paths]
    for reader in readers:
        reader.start()
    deadline_s = time.monotonic() + _PATIENCE_S + _GIVING_UP_S
    for reader in readers:
        reader.join(max(0.0, deadline_s - time.monotonic()))
    return [told[path] for path in paths]


def _read(path: Path) -> dict[str, Any]:
    """Return the figures of one mount, or why there are none."""
    from idcfs.mount.mountpoints import is_stale
    from idcfs.mount.question import Answer, ask

    # Not by this thread, which would keep the process from ending: see `mount.question`.
    if ask(path, _PATIENCE_S).answer is Answer.MISSING:
        return _hanging(path)
    if is_stale(path):
        reason = f"its daemon is gone; clear it with: idcfs umount --stale {path}"
        return {"mountpoint": str(path), "error": reason}
    try:
        figures: dict[str, Any] = json.loads((path / ".idcfs" / "status.json").read_text())
    except PermissionError:
        return {"mountpoint": str(path), "error": _ANOTHERS}
    except OSError as exc:
        return {"mountpoint": str(path), "error": f"it cannot be asked: {exc.strerror}"}
    return figures


def _hanging(path: Path) -> dict[str, Any]:
    return {"mountpoint": str(path), "error": f"it does not answer within {_PATIENCE_S:.0f} s"}


def _lines(figures: dict[str, Any]) -> list[str]:
    if "error" in figures:
        return [printable(f"{figures['mountpoint']}: {figures['error']}")]
    objects, store = figures["objects"], figures["store"]
    answered = sum(each["count"] for each in figures["requests"].values())
    ratio = (
        "" if objects["hit_ratio"] is None else f", {objects['hit_ratio']:.1%} of them there before"
    )
    return [
        printable(f"{figures['mountpoint']}: {figures['release']} ({figures['index_version']})"),
        f"shows     {figures['series']:,} series, {figures['files']:,} files, "
        f"{human_bytes(figures['bytes'])}",
        f"daemon    process {figures['pid']}, up {_duration(figures['uptime_s'])}, "
        f"{human_bytes(figures['memory_bytes'])} of memory",
        f"requests  {answered:,} answered, {figures['requests_under_way']} under way",
        *(f"  {kind:10} {_summary(each)}" for kind, each in figures["requests"].items()),
        f"read      {human_bytes(figures['read_bytes'])}, of {objects['read']:,} objects{ratio}",
        f"          {human_bytes(figures['cache_bytes'])} from the cache, "
        f"{human_bytes(figures['store_bytes'])} fetched first",
        f"fetched   {human_bytes(store['received_bytes'])}, {store['under_way']} under way, "
        f"{store['queued']} waiting",
        *_outage(store["unreachable_s"]),
        *(f"  {kind:10} {_summary(each)}" for kind, each in store["requests"].items()),
        f"errors    {_errors(figures['errors'])}",
        f"  store    {_errors(store['errors'])}",
        printable(f"cache     {figures['cache_dir']}"),
    ]


def _summary(summary: dict[str, Any]) -> str:
    if not summary["count"]:
        return f"{0:>8}"
    median, most = _time(summary["p50_s"]), _time(summary["p99_s"])
    return f"{summary['count']:>8,}   half within {median}, 99% within {most}"


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.0f} s"


def _outage(seconds: float | None) -> list[str]:
    if seconds is None:
        return []
    return [f"          the store cannot be reached, for {_duration(seconds)} now"]


def _errors(errors: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in errors.items()) or "none"


def _duration(seconds: float) -> str:
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
