"""The knobs of reading sources."""

from __future__ import annotations

from dataclasses import dataclass, field

from wit.knobs import MANY, Range, added, check_ranges
from wit.sources.commoncrawl import CC_BASE
from wit.sources.reading import RequestBudget
from wit.sources.text import check_encoding

RANGES = {
    "source_requests_per_s": Range(1e-4, 1e6),
    **dict.fromkeys(("source_readers", "files_per_part"), Range(0, 1_000_000)),
    "limit": Range(1, MANY),
}


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """How sources are read."""

    cc_base: str = CC_BASE
    """where commoncrawl: finds its files: https:// or s3://"""
    source_requests_per_s: float = 2.0
    """requests a second that the whole job sends for remote source files"""
    source_readers: int = 0
    """workers that read source files at a time and share those requests (0 = --workers; on an engine, --fetch-workers)"""
    url_col: str | None = None
    """table sources: column of the image URL, or a field in it as a.b (default: found by its usual names)"""
    caption_col: str | None = None
    """table sources: column of the caption, or a field in it as a.b (default: found by its usual names)"""
    encoding: str | None = field(default=None, metadata=added(since=2, before=None))
    """table sources of text: their encoding, for instance shift_jis (default: UTF-8, UTF-16 or Windows-1252, as they read)"""
    limit: int | None = None
    """keep at most this many pairs of the sources and read little more: a quick look"""
    files_per_part: int = 0
    """source files extracted by one worker into one part (0 = by the number of files: 1 on a laptop, up to 32)"""

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        check_encoding(self.encoding)

    def budget(self, readers: int) -> RequestBudget:
        """The share of the job's requests for source files that each of so many workers may send."""
        return RequestBudget(self.source_requests_per_s, workers=self.source_readers or readers)
