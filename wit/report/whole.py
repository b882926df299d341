"""The report as a whole: made from the files that the stages left under OUT, and written there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from wit import ledger
from wit.candidates.passes import Extracted
from wit.download.published import FetchedShard, last_attempts
from wit.images.formats import Format
from wit.layout import CARD_FILE, CROISSANT_FILE, LEDGER_FILE, PAGE_FILE, REPORT_FILES
from wit.ledger import LedgerFile
from wit.plan.facts import PlanFacts
from wit.querylist import QueryList
from wit.report.croissant import croissant
from wit.report.facts import Settings, page_facts
from wit.report.gallery import gallery
from wit.report.page import dataset_card, report_page
from wit.report.tables import (
    Tables,
    host_table,
    published_rows,
    query_table,
    read_sources,
    rows_per_query,
    source_table,
)
from wit.select.config import SelectConfig
from wit.select.passes import count
from wit.select.survival import Memberships, Shortfall, shortfall, still_lacking
from wit.store import fs
from wit.store.manifests import File, Manifest, Published, described
from wit.tally import Tally
from wit.typed import to_json


@dataclass(frozen=True, slots=True)
class Build:
    """A build whose set is published: the results of its stages under OUT, and its settings."""

    out: str
    published: Published
    totals: Mapping[str, Tally]
    """The statistics of every stage that ran."""
    download: Manifest
    plan: Manifest
    select: Manifest
    plan_facts: PlanFacts
    raw_shards: Sequence[FetchedShard]
    extracted: Sequence[Extracted] | None
    """None where candidates/ was deleted since."""
    queries: QueryList
    select_config: SelectConfig
    formats: Sequence[Format]
    """The formats that its pictures may be stored in."""
    settings: Settings


def write_report(build: Build) -> list[File]:
    """Writes all of REPORT_FILES; returns name, size and digest of each. Where the ledger does not add up it writes nothing and
    raises RuntimeError."""
    out, stages = build.out, ledger.stage_totals(build.totals)
    if wrong := ledger.imbalances(stages):
        raise RuntimeError("the ledger does not add up: " + "; ".join(": ".join(one) for one in wrong))
    published = build.published
    tables, short = tables_of(build)
    tables.publish(out)
    fs.write_bytes(fs.join(out, LEDGER_FILE), to_json(LedgerFile(stages, published.samples)))
    facts = page_facts(stages, published, tables, build.queries, build.settings, cap=build.plan_facts.cap, short=short)
    fs.write_bytes(fs.join(out, PAGE_FILE), report_page(stages, gallery(out), facts))
    fs.write_bytes(fs.join(out, CARD_FILE), dataset_card(stages, facts))
    tars = [file for file in published.files if file.name.endswith(".tar")]
    description = croissant(facts.name, published.samples, tars, build.formats)
    fs.write_bytes(fs.join(out, CROISSANT_FILE), to_json(description))
    return [described(out, name) for name in REPORT_FILES]


def tables_of(build: Build) -> tuple[Tables, Shortfall]:
    """(the ledger's tables, how many pairs queries lack). If candidates/ was deleted, the table of sources is that of an earlier
    report."""
    out, entries, plan = build.out, build.queries.entries, build.plan_facts
    hosts = host_table(last_attempts(out, build.download.parts, ["host", "reason"]))
    attempts = last_attempts(out, build.download.parts, ["captions", "reason"])
    arrived = (rows.filter(pc.is_null(rows["reason"])) for rows in attempts)
    kept = rows_per_query(published_rows(out, build.select, ["captions"]), len(entries))
    short = still_lacking(lacking(build), kept, plan.cap)
    queries = query_table(
        entries,
        plan,
        planned=rows_per_query(published_rows(out, build.plan, ["captions"]), len(entries)),
        downloaded=rows_per_query(arrived, len(entries)),
        kept=kept,
        short=short,
    )
    sources = source_table(build.extracted) if build.extracted is not None else read_sources(out)
    return Tables(sources, hosts, queries), short


def lacking(build: Build) -> Shortfall:
    """How many pairs each query lacks because it was oversampled too little, by the measured survival of its planned pairs."""
    plan, queries = build.plan_facts, len(build.queries)
    counts = (count(build.out, shard, queries=queries, config=build.select_config) for shard in build.raw_shards)
    memberships = sum(counts, Memberships(*np.zeros((2, queries), np.int64)))
    return shortfall(plan.weights, memberships, t=plan.cap, oversample=build.settings.oversample)
