"""The report as a whole: made from what the stages left under OUT, and what its passes summed up, and written there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wit import ledger
from wit.candidates.passes import Extracted
from wit.images.formats import Format
from wit.layout import (
    CARD_FILE,
    CROISSANT_FILE,
    HOSTS_FILE,
    LEDGER_FILE,
    PAGE_FILE,
    QUERIES_FILE,
    REPORT_FILES,
    SOURCES_FILE,
)
from wit.ledger import LedgerFile
from wit.plan.facts import PlanFacts
from wit.querylist import QueryList
from wit.report.croissant import croissant
from wit.report.facts import Settings, page_facts
from wit.report.gallery import gallery
from wit.report.hosts import HOSTS, HostFacts, merged
from wit.report.page import dataset_card, report_page
from wit.report.passes import DOWNLOADED, KEPT, PLANNED, Sums
from wit.report.tables import Tables, query_table, read_sources, source_table
from wit.select.survival import Shortfall, shortfall, still_lacking
from wit.store import fs, lease, parquet, streams
from wit.store.flight import side_by_side
from wit.store.manifests import File, Published, described
from wit.store.scratch import scratch_dir
from wit.tally import Tally
from wit.typed import to_json


@dataclass(frozen=True, slots=True)
class Build:
    """A build whose set is published: the results of its stages under OUT, and its settings."""

    out: str
    published: Published
    totals: Mapping[str, Tally]
    """The statistics of every stage that ran."""
    plan_facts: PlanFacts
    extracted: Sequence[Extracted] | None
    """None where candidates/ was deleted since."""
    queries: QueryList
    formats: Sequence[Format]
    """The formats that its pictures may be stored in."""
    settings: Settings
    lacks: str = ""
    """A sentence on a target that was not reached."""


def write_report(build: Build, sums: Sums) -> list[File]:
    """Writes all of REPORT_FILES; returns name, size and digest of each. Where the ledger does not add up it writes nothing and
    raises RuntimeError."""
    out, stages = build.out, ledger.stage_totals(build.totals)
    if wrong := ledger.imbalances(stages):
        raise RuntimeError("the ledger does not add up: " + "; ".join(": ".join(one) for one in wrong))
    published = build.published
    tables, short = write_tables(build, sums)
    fs.write_bytes(fs.join(out, LEDGER_FILE), to_json(LedgerFile(stages, published.samples)))
    cap, lacks = build.plan_facts.cap, build.lacks
    facts = page_facts(
        stages,
        published,
        tables,
        build.queries,
        build.settings,
        cap=cap,
        short=short,
        lacks=lacks,
        shared_addresses=sums.addresses,
    )
    fs.write_bytes(fs.join(out, PAGE_FILE), report_page(stages, gallery(out, sums.samples), facts))
    fs.write_bytes(fs.join(out, CARD_FILE), dataset_card(stages, facts))
    tars = [file for file in published.files if file.name.endswith(".tar")]
    description = croissant(facts.name, published.samples, tars, build.formats)
    fs.write_bytes(fs.join(out, CROISSANT_FILE), to_json(description))
    return [described(out, name) for name in REPORT_FILES]


def write_tables(build: Build, sums: Sums) -> tuple[Tables, Shortfall]:
    """Writes the ledger's tables; returns them, and how many pairs queries lack. If candidates/ was deleted, the table of sources
    is that of an earlier report."""
    out, plan, kept = build.out, build.plan_facts, sums.counts[KEPT]
    lacking = shortfall(plan.weights, sums.memberships, t=plan.cap, oversample=build.settings.oversample)
    short = still_lacking(lacking, kept, plan.cap)
    planned, downloaded = sums.counts[PLANNED], sums.counts[DOWNLOADED]
    entries = build.queries.entries
    queries = query_table(entries, plan, planned=planned, downloaded=downloaded, kept=kept, short=short)
    sources = source_table(build.extracted) if build.extracted is not None else read_sources(out)
    lease.check(out)
    for name, table in ((SOURCES_FILE, sources), (QUERIES_FILE, queries)):
        parquet.publish_table(table, fs.join(out, name), out=out)
    return Tables(sources, write_hosts(out, sums.hosts), queries), short


def write_hosts(out: str, runs: Sequence[str]) -> HostFacts:
    """Merges the tables of hosts of all pieces into one; returns what the page tells of it."""
    facts = HostFacts()
    with contextlib.ExitStack() as opened:
        scratch = opened.enter_context(scratch_dir(out))
        local = [fs.join(scratch, fs.name_of(run)) for run in runs]
        for _ in side_by_side(lambda number: fs.download(runs[number], local[number]), range(len(runs))):
            pass
        batches = [opened.enter_context(streams.streamed(path)) for path in local]
        parquet.publish_tables(facts.watch(merged(batches)), HOSTS, fs.join(out, HOSTS_FILE), out=out)
    return facts
