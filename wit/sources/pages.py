"""From the images of pages to batches of pairs: what WAT and WARC have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from wit import notes
from wit.sources.batch import PairBatch, SourceReport
from wit.sources.members import Record
from wit.urls import Resolver

BATCH_PAIRS = 8_192
MAX_PAGE_CHARS = 200_000_000  # of all URLs of one page: each may be as long as the base
EXTRACTOR_ERROR = "extractor_error"
Texts = list[str | None]
Page = tuple[str, str, list[str | None], list[str | None]]  # page URL, base URL, sources, alt texts


def batches(
    records: Iterable[Record],
    images_of: Callable[[Record, SourceReport], Page | None],
    report: SourceReport,
    *,
    batch_pairs: int = BATCH_PAIRS,
) -> Iterator[PairBatch]:
    """The pairs of the records, in their order. Numbering goes on over records that share an offset (a gzip member of many
    records), so that (offset, index) names one image of the file. A record that makes the extractor raise is lost. If reading
    itself fails, the pairs before still come out."""
    batch, offset, index = PairBatch(), -1, 0
    for number, record in enumerate(guarded(records, report)):
        if record.offset != offset:
            offset, index = record.offset, 0
        page = _surely(record, number, images_of, report)
        if not notes.begin(report.path, notes.READ, number + 1):
            report.error = f"cannot be read: reading on after record {number + 1} ended its process"
            break
        if page is None:
            continue
        page_url, srcs, urls, alts = page
        batch.add_page(page_url, offset, index, srcs, urls, alts)
        index += len(srcs)
        if len(batch) >= batch_pairs:
            report.pairs += len(batch)
            yield batch
            batch = PairBatch()
    report.pairs += len(batch)
    if batch:
        yield batch


def _surely(
    record: Record, number: int, images_of: Callable[[Record, SourceReport], Page | None], report: SourceReport
) -> tuple[str, Texts, Texts, Texts] | None:
    """As `_resolved`; a record that makes the extractor raise, or end its process, is lost."""
    if not notes.begin(report.path, notes.RECORD, number):
        report.lose(notes.CRASHED, place=f"source_offset {record.offset}: {notes.CRASHED}")
        return None
    try:
        return _resolved(images_of(record, report), report)
    except Exception:  # strangers wrote the record: what we did not foresee costs the record, not the build
        report.lose(EXTRACTOR_ERROR, place=f"source_offset {record.offset}: {EXTRACTOR_ERROR}")
        return None


def _resolved(page: Page | None, report: SourceReport) -> tuple[str, Texts, Texts, Texts] | None:
    """(page URL, sources, URLs, alt texts)."""
    if page is None:
        return None
    page_url, base, srcs, alts = page
    if (len(base) + len(page_url)) * len(srcs) > MAX_PAGE_CHARS:
        report.lose("too_many_images")
        return None
    return page_url, srcs, Resolver(base).resolve_all(srcs), alts


Item = TypeVar("Item")


def guarded(items: Iterable[Item], report: SourceReport) -> Iterator[Item]:
    """The items of a file until reading fails; the report then says why."""
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except OSError as error:
            report.error = f"cannot be read: {error}"
            return
        except Exception as error:  # likewise for the file: items read before are not lost with it
            report.error = f"cannot be read: {type(error).__name__}: {error}"
            return
        yield item
