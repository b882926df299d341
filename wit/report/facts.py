"""The facts on the page and the dataset card, drawn from a build's statistics and the ledger's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wit import __version__, ledger
from wit.arrays import Ints
from wit.querylist import QueryList
from wit.reasons import Reason
from wit.report.addresses import SharedAddress
from wit.report.hosts import HostLosses
from wit.report.tables import Tables
from wit.select.survival import Shortfall
from wit.store.manifests import Published
from wit.tally import Tally

TOP = 20  # rows of a table on the page, and warnings about sources; the ledger's tables have all


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a build that page and card show."""

    sources: tuple[str, ...]
    languages: tuple[str, ...]
    max_per_query: int
    oversample: float
    heeded: tuple[str, ...] = ()
    """The opt-outs of sites that the download went by."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well a query list is covered: how many queries have 1 to 9 pairs, 10 to 99, ...; none; and more than the cap."""

    bins: Sequence[tuple[str, int]]
    empty: int
    capped: int
    share_of_capped: float

    @property
    def largest(self) -> int:
        """The number of queries in the fullest bin; 1 where all are empty."""
        return max((queries for _, queries in self.bins), default=1) or 1


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A row of the ledger's table of queries."""

    query: str
    pairs: int
    planned: int
    downloaded: int
    kept: int
    capped: bool
    lacking: int
    enough_oversample: float | None


@dataclass(frozen=True, slots=True)
class PageFacts:
    """All facts that the templates show, besides the funnel and the gallery."""

    name: str
    """Named after the content, so that it is the same wherever the set lies."""
    version: str
    stages_run: tuple[str, ...]
    samples_total: int
    shards_total: int
    candidates_in: int
    survival: float
    """The share of planned pictures that arrived."""
    hosts_total: int
    queries_total: int
    queries_hit: int
    queries_sha256: str
    coverage: Coverage
    cap: str
    oversample: float
    unmatched: Sequence[str]
    left_for_language: int
    languages: tuple[str, ...]
    top_queries: Sequence[QueryRow]
    thin_queries: Sequence[QueryRow]
    worst_hosts: Sequence[HostLosses]
    warnings: Sequence[str]
    sources: tuple[str, ...]
    max_per_query: int
    heeded: tuple[str, ...]
    size_category: str
    shared_addresses: Sequence[SharedAddress] = ()


def page_facts(
    stages: Mapping[str, Tally],
    published: Published,
    tables: Tables,
    queries: QueryList,
    settings: Settings,
    *,
    cap: float,
    short: Shortfall,
    lacks: str = "",
    shared_addresses: Sequence[SharedAddress] = (),
) -> PageFacts:
    """The facts of a build; `cap` is plan's, infinite if there is none, `short` says how many pairs queries lack, and `lacks`
    what a target lacks, in a sentence."""
    candidates, download = stages["candidates"], stages["download"]
    counts = tables.queries
    return PageFacts(
        name=f"wit-{published.fingerprint[:8]}",
        version=__version__,
        stages_run=tuple(stages),
        samples_total=published.samples,
        shards_total=published.shards,
        candidates_in=candidates.into,
        survival=download.out / max(download.into, 1),
        hosts_total=tables.hosts.total,
        queries_total=len(counts),
        queries_hit=int((counts["kept"].to_numpy() > 0).sum()),
        queries_sha256=queries.digest,
        coverage=coverage(counts["pairs"].to_numpy(), cap),
        cap="none" if np.isinf(cap) else f"{cap:,.0f}",
        oversample=settings.oversample,
        unmatched=counts.filter(pc.equal(counts["pairs"], 0))["query"].slice(0, TOP).to_pylist(),
        left_for_language=candidates.dropped.get(str(Reason.LANGUAGE), 0),
        languages=settings.languages,
        top_queries=largest(counts, "pairs"),
        thin_queries=largest(counts, "lacking"),
        worst_hosts=tables.hosts.worst,
        warnings=warnings(tables.sources, short, oversample=settings.oversample, lacks=lacks),
        sources=settings.sources,
        max_per_query=settings.max_per_query,
        heeded=settings.heeded,
        size_category=size_category(published.samples),
        shared_addresses=shared_addresses,
    )


def coverage(counts: Ints, cap: float) -> Coverage:
    """Coverage as MetaCLIP publishes it: entries without a match, in the tail, and above the cap, with the share of the last."""
    edges = [10**k for k in range(10)]
    names = [f"{low:,} to {high - 1:,}" for low, high in zip(edges, edges[1:], strict=False)]
    filled = [int(((counts >= low) & (counts < high)).sum()) for low, high in zip(edges, edges[1:], strict=False)]
    last = max((i for i, n in enumerate(filled) if n), default=0)
    over = counts > cap
    share = float(counts[over].sum() / max(int(counts.sum()), 1))
    return Coverage(list(zip(names, filled, strict=True))[: last + 1], int((counts == 0).sum()), int(over.sum()), share)


def largest(queries: pa.Table, column: str) -> list[QueryRow]:
    """The TOP queries by that column, without those at 0; equal ones in the order of the list."""
    order = np.argsort(-queries[column].to_numpy(), kind="stable")[:TOP]
    return [QueryRow(**row) for row in queries.take(pa.array(order)).to_pylist() if row[column]]


def warnings(sources: pa.Table, short: Shortfall, *, oversample: float, lacks: str = "") -> list[str]:
    """What the owner of the build should act on: sources that could not be read, a target that was not reached, which `lacks`
    tells, and queries that lack pairs."""
    problems = ledger.source_problems({**row, "lost": json.loads(row["lost"])} for row in sources.to_pylist())
    sentences = problems[:TOP]
    if len(problems) > TOP:
        sentences.append(f"{len(problems) - TOP:,} more of these: ledger/sources.parquet has them all.")
    return [*sentences, *filter(None, (lacks, short.describe(oversample)))]


def size_category(samples: int) -> str:
    """The Hugging Face hub's name for that many samples."""
    steps = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B"]
    return steps[min(max(len(str(samples)) - 3, 0), len(steps) - 1)]
