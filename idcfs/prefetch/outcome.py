"""What a prefetch has done so far, and what it could not do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from idcfs.model import Checksum, Series, SeriesUUID

Told = Literal["fetched", "replaced", "copied", "present", "failed"]
"""What becomes of a file; `replaced` was there and not right, `present` was right, and `copied`
was not there, but in the cache."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be had."""

    subject: str
    """A file's path or URL, or a series."""
    reason: str
    """One line."""

    @property
    def line(self) -> str:
        """Both in one line, the subject once."""
        return self.reason if self.subject in self.reason else f"{self.subject}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of one file, or of a series of which some files cannot be named."""

    series: SeriesUUID
    url: str
    place: str | None
    """Where the file is, or was to go, or the series that a command failed on; None else."""
    told: Told
    size_bytes: int | None
    """None for a series."""
    checksum: Checksum | None = None
    """What the content was held against besides its length; None for nothing."""
    reason: str | None = None
    """Why it failed, in one line."""
    file_count: int = 1
    """How many files it stands for."""

    @property
    def subject(self) -> str:
        """What failed, for a message."""
        return f"series {self.series}" if self.size_bytes is None else self.place or self.url


def failed_series(series: Series, reason: str, file_count: int, place: str | None = None) -> Ending:
    """Return the ending of a series of which `file_count` files, none of them named, failed."""
    url = f"s3://{series.bucket}/{series.prefix}"
    return Ending(series.uuid, url, place, "failed", None, reason=reason, file_count=file_count)


@dataclass(slots=True)
class Outcome:
    """Figures of one prefetch. Changed by one thread at a time; they may be read at any time.

    Totals are the index's until the listings of all series are there.
    """

    total_files: int
    total_bytes: int
    fetched_files: int = 0
    fetched_bytes: int = 0
    replaced_files: int = 0
    """Those of the fetched in whose place something else was."""
    present_files: int = 0
    """Files that were there already, and right."""
    present_bytes: int = 0
    copied_files: int = 0
    """Files that were not there and came from the cache."""
    copied_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed_files: int = 0
    """Files that the failures stand for: a series that cannot be listed counts as all of its."""
    interrupted: bool = False
    """A signal ended it early."""
    gave_up: str | None = None
    """Why it ended early by itself and, once it has ended, how many files it did not try."""
    commands_done: int = 0
    """Series on which the user's command has ended well."""
    commands_failed: int = 0
    """Series on which it has not. Their files are there."""
    commands_left: int = 0
    """Series that are there and that it has not seen, or not to its end."""
    skipped_series: int = 0
    """Series on which it had ended well before. They are not among the files."""
    out_of_reach: bool = False
    """The store, or a proxy on the way, refused (403); or nobody answered, until it gave up or
    nothing had come in the end."""

    def count(self, ending: Ending) -> None:
        """Add what became of a file, or a series, to the figures."""
        if ending.told == "failed":
            self.failed_files += ending.file_count
            self.failures.append(Failure(ending.subject, ending.reason or ""))
        elif ending.told == "present":
            self.present_files += 1
            self.present_bytes += ending.size_bytes or 0
        elif ending.told == "copied":
            self.copied_files += 1
            self.copied_bytes += ending.size_bytes or 0
        else:
            self.fetched_files += 1
            self.fetched_bytes += ending.size_bytes or 0
            self.replaced_files += ending.told == "replaced"

    def tell_untried(self) -> None:
        """Add to the reason for giving up, once all has ended, what was not tried for it."""
        if self.gave_up is not None:
            self.gave_up += f" ({self.untried_files:,} of them were not tried)"

    def skip(self, series: Series) -> None:
        """Leave out a series of which nothing is to be done."""
        self.skipped_series += 1
        self.total_files -= series.instance_count or 0
        self.total_bytes -= series.size_bytes

    @property
    def done_files(self) -> int:
        """Files that are where they belong."""
        return self.fetched_files + self.copied_files + self.present_files

    @property
    def done_bytes(self) -> int:
        """Their bytes."""
        return self.fetched_bytes + self.copied_bytes + self.present_bytes

    @property
    def untried_files(self) -> int:
        """Files that neither are there nor failed; also those dropped while under way."""
        return self.total_files - self.done_files - self.failed_files

    @property
    def is_complete(self) -> bool:
        """Tell whether everything is there."""
        return not (self.failures or self.interrupted or self.gave_up)
