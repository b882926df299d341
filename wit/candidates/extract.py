"""The candidates stage: a group of source files -> matched, clean pairs, and every other pair with the reason it left.

A pair leaves at the first rule that objects, in this order: its URL, its caption, no query, its language, the same pair earlier
in the group. Language comes after matching since it costs the most, and the result is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wit import notes
from wit.arrays import Ints
from wit.candidates import language
from wit.candidates.captions import clean_caption, reject_caption
from wit.candidates.config import CandidatesConfig
from wit.candidates.matching import Matcher, matcher_for
from wit.errors import InputError
from wit.hashing import GOLDEN, keyed_hash
from wit.querylist import QueryList
from wit.reasons import Reason
from wit.records import CANDIDATES, DROPPED, pair_key
from wit.sources import PairBatch, RequestBudget, SourceFile, SourceReport, read_pairs
from wit.sources.pages import EXTRACTOR_ERROR
from wit.urls import canonical_urls, reason_for, without_credentials

Item = TypeVar("Item")

RAW_CHARS_PER_CHAR = 8  # an alt text longer than this many times the longest caption is dropped uncleaned
DROPPED_URL_CHARS = 500  # of a dropped URL that are written down: data: URLs are megabytes


@dataclass(slots=True)
class CandidateGroup:
    """The result of a group: pairs_in == len(table) + all of dropped_counts, always."""

    table: pa.Table  # records.CANDIDATES, in the order of the files
    dropped: pa.Table  # records.DROPPED, in the order of the files but duplicates last; empty if not asked for
    pairs_in: int
    dropped_counts: dict[Reason, int]
    sources: list[SourceReport]


@dataclass(slots=True)
class _Collected:
    """The rows and counts gathered on the way through a group."""

    seed: int
    dropped_one_in: int
    source: str = ""
    rows: list[pa.RecordBatch] = field(default_factory=list)
    dropped: list[pa.RecordBatch] = field(default_factory=list)
    counts: Counter[Reason] = field(default_factory=Counter)
    pairs_in: int = 0

    def drawn(self, offsets: Sequence[int], indexes: Sequence[int], source: str) -> npt.NDArray[np.bool_]:
        """[n] which of the rejected pairs at these places of a source are written down, by a keyed draw of the place."""
        if self.dropped_one_in <= 1:
            return np.full(len(offsets), self.dropped_one_in == 1)
        mixed = np.array(offsets, np.uint64) * GOLDEN + np.array(indexes, np.uint64)
        for key in ("dropped", "dropped again"):
            mixed = (mixed ^ np.uint64(keyed_hash(self.seed, key, source))) * GOLDEN
            mixed ^= mixed >> np.uint64(29)
        drawn: npt.NDArray[np.bool_] = (mixed >> np.uint64(32)) % np.uint64(self.dropped_one_in) == 0
        return drawn


def extract_group(
    files: Sequence[SourceFile],
    *,
    queries: QueryList,
    config: CandidatesConfig,
    seed: int,
    limit: int | None = None,
    dropped_one_in: int = 1,
    budget: RequestBudget | None = None,
) -> CandidateGroup:
    """The candidates of a group of files, in their order; they depend only on the files' content and the arguments.

    With a `limit`, reading ends with the first batch that goes beyond it; its pairs beyond the limit count as OVER_LIMIT.
    All rejected pairs are counted; one in `dropped_one_in` is written down (0: none), by the seed's draw. `budget` bounds how
    often remote files are requested.
    """
    matcher = matcher_for(queries, config.matching)
    collected = _Collected(seed, dropped_one_in)
    reports = []
    for file in files:
        if limit is not None and collected.pairs_in >= limit:
            break
        report = SourceReport(file.name)
        reports.append(report)
        collected.source = file.name
        for number, batch in enumerate(read_pairs(file, report, budget)):
            left = len(batch) if limit is None else max(0, limit - collected.pairs_in)
            if notes.begin(report.path, notes.BATCH, number):
                _take_surely(batch, left, matcher, config, collected, report)
            else:
                report.lose(notes.CRASHED, len(batch), f"source_offset from {batch.offset[0]}: {notes.CRASHED}")
                report.pairs -= len(batch)
            if not notes.begin(report.path, notes.READ, report.records):
                report.error = f"cannot be read: reading on after record {report.records} ended its process"
                break
            if left < len(batch):
                break
    return _finish(collected, reports)


def _take_surely(
    batch: PairBatch, left: int, matcher: Matcher, config: CandidatesConfig, to: _Collected, report: SourceReport
) -> None:
    """As `_take_batch`, but a pair that makes it raise is lost, alone: the batch is halved until that pair stands by itself."""
    try:
        _take_batch(batch, left, matcher, config, to)
    except InputError:  # the user's to mend, and no pair's fault
        raise
    except Exception:  # strangers wrote the pair: what we did not foresee costs the pair, not the build
        if len(batch) == 1:
            report.lose(EXTRACTOR_ERROR, place=f"source_offset {batch.offset[0]}: {EXTRACTOR_ERROR}")
            report.pairs -= 1
            return
        half = len(batch) // 2
        _take_surely(batch.part(0, half), min(left, half), matcher, config, to, report)
        _take_surely(batch.part(half, len(batch)), max(left - half, 0), matcher, config, to, report)


def _take_batch(batch: PairBatch, left: int, matcher: Matcher, config: CandidatesConfig, to: _Collected) -> None:
    """Judges one batch, of which the first `left` pairs are within the limit; adds its rows and counts to `to`."""
    batch.url = [url and without_credentials(url) for url in batch.url]
    canonical = canonical_urls(batch.url)
    captions, reasons = judge_pairs(batch, canonical, config)
    reasons[left:] = [Reason.OVER_LIMIT] * len(reasons[left:])
    details: dict[int, str] = {}
    places = [place for place, reason in enumerate(reasons) if reason is None]
    offsets, ids = matcher.match([captions[place] for place in places])
    matched = np.flatnonzero(np.diff(offsets)).tolist()
    codes, scores = _languages([captions[places[m]] for m in matched], config)
    kept = []
    for m, code, score in zip(matched, codes, scores, strict=True):
        place = places[m]
        if code is None or _wanted(code, score, config):
            kept.append((place, m, code, score))
        else:
            reasons[place] = Reason.LANGUAGE
            details[place] = f"{code} {score:.2f}"
    for m in np.flatnonzero(np.diff(offsets) == 0).tolist():
        reasons[places[m]] = Reason.NO_QUERY
    rows = _rows(batch, canonical, captions, kept, offsets, ids, to.source)
    rejected = [place for place, reason in enumerate(reasons) if reason is not None]
    drawn = to.drawn(_taken(batch.offset, rejected), _taken(batch.index, rejected), to.source)
    written = [place for place, draw in zip(rejected, drawn.tolist(), strict=True) if draw]
    dropped = [_dropped(batch, written, canonical, captions, reasons, details, to.source)] if written else []
    to.pairs_in += len(batch)  # nothing below raises
    to.counts.update(reason for reason in reasons if reason is not None)
    to.rows.append(rows)
    to.dropped += dropped


def judge_pairs(
    batch: PairBatch, canonical: Sequence[str | None], config: CandidatesConfig
) -> tuple[list[str], list[Reason | None]]:
    """(the clean caption of each pair, why the pair is dropped for its URL or caption, or None)."""
    max_raw = RAW_CHARS_PER_CHAR * config.max_caption_chars
    seen: dict[str | None, tuple[str, Reason | None]] = {}
    captions: list[str] = []
    reasons: list[Reason | None] = []
    for src, url, href, alt in zip(batch.src, batch.url, canonical, batch.alt, strict=True):
        known = seen.get(alt)
        if known is None:
            known = seen[alt] = _judge_caption(alt, max_raw, config)
        caption, reason = known
        if href is None or len(href) > config.max_url_chars:
            reason = _url_reason(src, url, href)
        captions.append(caption)
        reasons.append(reason)
    return captions, reasons


def _judge_caption(alt: str | None, max_raw: int, config: CandidatesConfig) -> tuple[str, Reason | None]:
    if alt is None:
        return "", Reason.CAPTION_MISSING
    if len(alt) > max_raw:
        return clean_caption(alt[:max_raw])[: config.max_caption_chars], Reason.CAPTION_TOO_LONG
    caption = clean_caption(alt)
    return caption, reject_caption(caption, config) if caption else Reason.CAPTION_EMPTY


def _url_reason(src: str | None, url: str | None, href: str | None) -> Reason:
    if href is not None:
        return Reason.URL_TOO_LONG
    return reason_for(src) if url is None else Reason.URL_INVALID


def _languages(captions: list[str], config: CandidatesConfig) -> tuple[list[str | None], list[float]]:
    """(language of each caption, its score); None where it is too short to tell, or all languages are wanted."""
    codes: dict[str, tuple[str | None, float]] = dict.fromkeys(captions, (None, 0.0))
    if config.languages != ("any",):
        asked = [
            c
            for c in codes
            if language.long_enough(c, min_words=config.language_min_words, min_chars=config.language_min_chars)
        ]
        detected = language.detect(asked, model_path=config.language_model)
        codes.update(zip(asked, zip(*detected, strict=True), strict=True))
    return [codes[caption][0] for caption in captions], [codes[caption][1] for caption in captions]


def _wanted(code: str, score: float, config: CandidatesConfig) -> bool:
    return code in config.languages and score >= config.language_min_score


def _rows(
    batch: PairBatch,
    canonical: Sequence[str | None],
    captions: Sequence[str],
    kept: Sequence[tuple[int, int, str | None, float]],
    offsets: Ints,
    ids: npt.NDArray[np.int32],
    source: str,
) -> pa.RecordBatch:
    """The kept pairs of a batch as candidates; `kept` is (place in the batch, place among the matched texts, language, score)."""
    places = [place for place, _, _, _ in kept]
    texts = [captions[place] for place in places]
    hrefs = [canonical[place] or "" for place in places]
    columns = {
        "key": [pair_key(href, text) for href, text in zip(hrefs, texts, strict=True)],
        "url": _taken(batch.url, places),
        "canonical_url": hrefs,
        "caption": texts,
        "page_url": _taken(batch.page_url, places),
        "source": pa.repeat(pa.scalar(source, pa.string()), len(places)),
        "source_offset": _taken(batch.offset, places),
        "source_index": _taken(batch.index, places),
        "query_ids": _id_lists([m for _, m, _, _ in kept], offsets, ids),
        "language": [code for _, _, code, _ in kept],
        "language_score": [None if code is None else score for _, _, code, score in kept],
        "extra": _taken(batch.extra, places),
        "copies": np.ones(len(places), np.int32),
    }
    return pa.RecordBatch.from_arrays([_array(columns[f.name], f.type) for f in CANDIDATES], schema=CANDIDATES)


def _id_lists(texts: list[int], offsets: Ints, ids: npt.NDArray[np.int32]) -> pa.ListArray:
    """The id lists of these texts, as one column."""
    places = np.array(texts, np.int64)
    starts, counts = offsets[places], offsets[places + 1] - offsets[places]
    ends = np.cumsum(counts)
    values = ids[np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)]
    return pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), values)


def _dropped(
    batch: PairBatch,
    places: Sequence[int],
    canonical: Sequence[str | None],
    captions: Sequence[str],
    reasons: Sequence[Reason | None],
    details: dict[int, str],
    source: str,
) -> pa.RecordBatch:
    """These rejected pairs of a batch as records.DROPPED; a pair with a usable URL and caption has its key."""
    urls = [batch.src[place] if batch.url[place] is None else batch.url[place] for place in places]
    columns = {
        "key": [_key(canonical[place], captions[place]) for place in places],
        "stage": pa.repeat(pa.scalar("candidates", pa.string()), len(places)),
        "reason": [str(reasons[place]) for place in places],
        "detail": [details.get(place, "") for place in places],
        "url": [url and without_credentials(url)[:DROPPED_URL_CHARS] for url in urls],
        "caption": [captions[place] for place in places],
        "page_url": _taken(batch.page_url, places),
        "source": pa.repeat(pa.scalar(source, pa.string()), len(places)),
        "source_offset": _taken(batch.offset, places),
        "source_index": _taken(batch.index, places),
    }
    return pa.RecordBatch.from_arrays([_array(columns[f.name], f.type) for f in DROPPED], schema=DROPPED)


def _key(href: str | None, caption: str) -> str | None:
    return pair_key(href, caption) if href and caption else None


def _taken(values: Sequence[Item], places: Sequence[int]) -> list[Item]:
    return [values[place] for place in places]


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """The values as one Arrow column; a character that UTF-8 cannot hold (a lone surrogate, in an invalid URL) becomes "?"."""
    if isinstance(values, pa.Array):
        return values
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], kind)


def _finish(collected: _Collected, reports: list[SourceReport]) -> CandidateGroup:
    """Merges equal pairs of the group into the first of them, and checks that the counts add up."""
    table = pa.Table.from_batches(collected.rows, CANDIDATES)
    dropped = pa.Table.from_batches(collected.dropped, DROPPED)
    first, copies = _first_of_equals(table["key"])
    if len(first) < len(table):
        merged = np.setdiff1d(np.arange(len(table)), first)
        collected.counts[Reason.DUPLICATE_IN_GROUP] += len(merged)
        if collected.dropped_one_in:
            dropped = pa.concat_tables([dropped, _as_dropped(table.take(merged), collected)])
        copies_at = CANDIDATES.get_field_index("copies")
        table = table.take(first).set_column(copies_at, CANDIDATES.field("copies"), pa.array(copies, pa.int32()))
    counts = {reason: collected.counts[reason] for reason in Reason if collected.counts[reason]}
    if collected.pairs_in != len(table) + sum(counts.values()):
        raise AssertionError(f"{collected.pairs_in} pairs in, {len(table)} out, dropped {counts}")
    return CandidateGroup(table, dropped, collected.pairs_in, counts, reports)


def _first_of_equals(keys: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """The places of the first occurrence of each key, ascending, and how often it occurs."""
    encoded = pc.dictionary_encode(keys.combine_chunks())
    numbers = encoded.indices.to_numpy()  # in the order of first occurrence
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    return first.astype(np.int64), counts.astype(np.int64)


def _as_dropped(rows: pa.Table, collected: _Collected) -> pa.Table:
    """Candidates that were merged into an equal pair before them, as rows of records.DROPPED, thinned by `drawn`."""
    fixed = {"stage": "candidates", "reason": Reason.DUPLICATE_IN_GROUP.value, "detail": ""}
    columns = [
        pa.repeat(pa.scalar(fixed[name], pa.string()), len(rows)) if name in fixed else rows[name]
        for name in DROPPED.names
    ]
    drawn = [
        collected.drawn([offset], [index], source)[0]
        for source, offset, index in zip(
            *(rows[name].to_pylist() for name in ("source", "source_offset", "source_index")), strict=True
        )
    ]
    return pa.table(columns, DROPPED).filter(pa.array(drawn, pa.bool_()))
