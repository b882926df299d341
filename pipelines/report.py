"""report: ledger and tables -> ledger.json, ledger/, report/index.html, dataset card, Croissant. Tiny; read in one process."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import wit
from pipelines.context import Context
from wit import layout, ledger, report
from wit.damage import damaged
from wit.download.published import last_attempts
from wit.images.formats import FORMATS
from wit.images.headers import sniff
from wit.images.process import stored_formats
from wit.ledger import LedgerFile
from wit.plan.passes import QUERIES
from wit.querylist import load_queries
from wit.reasons import Reason
from wit.select.passes import count
from wit.select.survival import Memberships, Shortfall, still_lacking
from wit.select.survival import shortfall as lacking_of
from wit.store import fs, parquet
from wit.store.manifests import File, Published, described
from wit.tally import Tally
from wit.typed import to_json

GALLERY = 48
TOP = 20


def tables(context: Context, stage: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The published rows of a stage, part by part; of download each planned URL as its last attempt left it."""
    directory, markers = context.stage(stage), context.manifest(stage).parts
    if stage == "download":
        yield from last_attempts(directory.out, markers, columns)
        return
    for marker in markers:
        if marker.unit != QUERIES and "rows" in marker.files:
            yield parquet.read_table(directory.file(marker, "rows"), columns)


def run_report(context: Context) -> list[File]:
    """Writes them all; returns name, size and digest of each file."""
    out = context.config.output
    published, stages = context.published(), ledger.stage_totals(context.totals())
    if wrong := ledger.imbalances(stages):
        raise RuntimeError("the ledger does not add up: " + "; ".join(": ".join(one) for one in wrong))
    totals = LedgerFile(stages, published.samples)
    hosts, (queries, short) = host_table(context), query_table(context)
    tables = {layout.SOURCES_FILE: source_table(context), layout.HOSTS_FILE: hosts, layout.QUERIES_FILE: queries}
    for name, table in tables.items():
        _write(out, name, table)
    fs.write_bytes(fs.join(out, layout.LEDGER_FILE), to_json(totals))
    facts = page_facts(context, published, stages, hosts, queries, short)
    fs.write_bytes(fs.join(out, layout.PAGE_FILE), report.page(stages, gallery(context), **facts))
    fs.write_bytes(fs.join(out, layout.CARD_FILE), report.render("card.md", stages=stages, **facts))
    tars = [file for file in published.files if file.name.endswith(".tar")]
    description = report.croissant(facts["name"], totals.samples, tars, stored_formats(context.config.image))
    fs.write_bytes(fs.join(out, layout.CROISSANT_FILE), to_json(description))
    return [described(out, name) for name in layout.REPORT_FILES]


def source_table(context: Context) -> pa.Table:
    """By source file; as it was written before where the candidates were deleted since."""
    if (groups := context.extracted()) is not None:
        return report.source_table(groups)
    return report.source_table_of(parquet.read_table(fs.join(context.config.output, layout.SOURCES_FILE)))


def _write(out: str, name: str, table: pa.Table) -> None:
    with fs.scratch_dir(out) as scratch:
        parquet.write_parquet(table, f"{scratch}/table.parquet")
        fs.publish(f"{scratch}/table.parquet", fs.join(out, name))


def host_table(context: Context) -> pa.Table:
    return report.host_outcomes(tables(context, "download", ["host", "reason"]))


def shortfall(context: Context) -> Shortfall:
    """What queries lack for want of oversampling."""
    config, facts = context.config, context.plan_facts()
    counts = (
        count(config.output, shard, queries=len(facts.pairs), config=config.select) for shard in context.raw_shards()
    )
    memberships = sum(counts, Memberships(*np.zeros((2, len(facts.pairs)), np.int64)))
    return lacking_of(facts.weights, memberships, t=facts.cap, oversample=config.plan.oversample)


def query_table(context: Context) -> tuple[pa.Table, Shortfall]:
    """(by query, what queries lack)."""
    entries = load_queries(context.config.queries).entries
    facts, n = context.plan_facts(), len(entries)
    arrived = (t.filter(pa.compute.is_null(t["reason"])) for t in tables(context, "download", ["captions", "reason"]))
    kept = report.membership_counts(tables(context, "select", ["captions"]), n)
    short = still_lacking(shortfall(context), kept, facts.cap)
    columns = {
        "query": pa.array(entries),
        "pairs": pa.array(facts.pairs),
        "planned": pa.array(report.membership_counts(tables(context, "plan", ["captions"]), n)),
        "downloaded": pa.array(report.membership_counts(arrived, n)),
        "kept": pa.array(kept),
        "capped": pa.array(facts.pairs > facts.cap),
        "lacking": pa.array(np.round(short.missing).astype(np.int64)),
        "enough_oversample": pa.array(short.oversample, mask=short.oversample == 0),
    }
    return pa.table(columns, schema=report.QUERIES), short


def gallery(context: Context) -> list[dict[str, str]]:
    """Some published samples, chosen by their keys, with their pictures inline."""
    shards = fs.join(context.config.output, "shards")
    found: list[tuple[str, str, str, int, int, str]] = []
    columns = ["key", "caption", "image_offset", "image_size", "sha256"]
    for name in fs.list_dir(shards):
        if name.endswith(".parquet"):
            table = parquet.read_table(fs.join(shards, name), columns)
            tar = fs.join(shards, name.removesuffix("parquet") + "tar")
            rows = zip(*(table[column].to_pylist() for column in table.column_names), strict=True)
            found = sorted([*found, *((key, caption, tar, *place) for key, caption, *place in rows)])[:GALLERY]
    return [
        {"caption": caption, "src": _inline(tar, start, size, digest)} for _, caption, tar, start, size, digest in found
    ]


def _inline(tar: str, start: int, size: int, digest: str) -> str:
    picture = fs.read_range(tar, start, size)
    if hashlib.sha256(picture).hexdigest() != digest:
        raise damaged(tar, f"the picture at byte {start} is not that of its sha256")
    kind = FORMATS[str(sniff(picture))].media_type
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def page_facts(
    context: Context,
    published: Published,
    stages: dict[str, Tally],
    hosts: pa.Table,
    queries: pa.Table,
    short: Shortfall,
) -> dict[str, Any]:
    config, samples = context.config, published.samples
    pairs = queries["pairs"].to_numpy()
    cap = context.plan_facts().cap
    covered = report.coverage(pairs, cap)
    survival = stages["download"].out / max(stages["download"].into, 1)
    hit = int((queries["kept"].to_numpy() > 0).sum())
    top = queries.take(pa.array(np.argsort(-pairs, kind="stable")[:TOP])).to_pylist()
    return {
        "name": f"wit-{context.fingerprints['publish'][:8]}",  # of the content, wherever it lies
        "version": wit.__version__,
        "stages_run": ", ".join(stages),
        "samples_total": samples,
        "shards_total": published.shards,
        "candidates_in": stages["candidates"].into,
        "survival": survival,
        "hosts_total": len(set(hosts["host"].to_pylist())),
        "queries_total": len(queries),
        "queries_hit": hit,
        "queries_sha256": load_queries(config.queries).digest,
        "coverage": covered,
        "coverage_most": max((n for _, n in covered.bins), default=1) or 1,
        "cap": "none" if np.isinf(cap) else f"{cap:,.0f}",
        "oversample": config.plan.oversample,
        "unmatched": queries.filter(pa.compute.equal(queries["pairs"], 0))["query"].slice(0, TOP).to_pylist(),
        "left_for_language": stages["candidates"].dropped.get(str(Reason.LANGUAGE), 0),
        "languages": ", ".join(config.candidates.languages),
        "top_queries": [row for row in top if row["pairs"]],
        "worst_hosts": worst_hosts(hosts),
        "warnings": warnings(context, short),
        "thin_queries": thinnest(queries),
        "sources": list(config.source),
        "max_per_query": config.plan.max_per_query,
        "size_category": size_category(samples),
    }


def worst_hosts(hosts: pa.Table) -> list[dict[str, Any]]:
    """The hosts that lost most pictures, and to what."""
    by_host: dict[str, dict[str, int]] = defaultdict(dict)
    for row in hosts.to_pylist():
        by_host[row["host"]][row["outcome"]] = row["pairs"]
    found = []
    for host, outcomes in by_host.items():
        losses = {name: n for name, n in outcomes.items() if name != "downloaded"}
        if losses:
            loss = max(losses, key=lambda name: (losses[name], name))
            asked, arrived = sum(outcomes.values()), outcomes.get("downloaded", 0)
            found.append({"host": host, "asked": asked, "arrived": arrived, "loss": loss})
    return sorted(found, key=lambda row: (row["arrived"] - row["asked"], row["host"]))[:TOP]


def thinnest(queries: pa.Table) -> list[dict[str, Any]]:
    """The queries that lack most."""
    lacking = queries["lacking"].to_numpy()
    return [
        row for row in queries.take(pa.array(np.argsort(-lacking, kind="stable")[:TOP])).to_pylist() if row["lacking"]
    ]


def warnings(context: Context, short: Shortfall) -> list[str]:
    """What the owner of the build should act on."""
    said = []
    sources = [{**row, "lost": json.loads(row["lost"])} for row in source_table(context).to_pylist()]
    problems = ledger.source_problems(sources)
    said += problems[:TOP]
    if len(problems) > TOP:
        said.append(f"{len(problems) - TOP:,} more of these: ledger/sources.parquet has them all.")
    if sentence := short.describe(context.config.plan.oversample):
        said.append(sentence)
    return said


def size_category(samples: int) -> str:
    """The Hugging Face hub's name for that many samples."""
    steps = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B"]
    return steps[min(max(len(str(samples)) - 3, 0), len(steps) - 1)]
