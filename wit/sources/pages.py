"""From the images of pages to batches of pairs: what WAT and WARC have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from wit.sources.batch import PairBatch, SourceReport
from wit.sources.members import Record
from wit.urls import Resolver

BATCH_PAIRS = 8_192
Page = tuple[str, str, list[str | None], list[str | None]]  # page URL, base URL, sources, alt texts


def batches(
    records: Iterable[Record],
    images_of: Callable[[Record, SourceReport], Page | None],
    report: SourceReport,
    *,
    batch_pairs: int = BATCH_PAIRS,
) -> Iterator[PairBatch]:
    """The pairs of the records, in their order. Images of records that share an offset (a gzip member of many records)
    are numbered on, so that (offset, index) names one image of the file."""
    batch, offset, index = PairBatch(), -1, 0
    for record in records:
        if record.offset != offset:
            offset, index = record.offset, 0
        page = images_of(record, report)
        if page is None:
            continue
        page_url, base, srcs, alts = page
        batch.add_page(page_url, offset, index, srcs, Resolver(base).resolve_all(srcs), alts)
        index += len(srcs)
        if len(batch) >= batch_pairs:
            report.pairs += len(batch)
            yield batch
            batch = PairBatch()
    report.pairs += len(batch)
    if batch:
        yield batch
