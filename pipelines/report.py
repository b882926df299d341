"""report: ledger and tables -> ledger.json, ledger/, report/index.html, dataset card, Croissant. Tiny; made in one process."""

from __future__ import annotations

from pipelines.context import Context
from wit.images.process import stored_formats
from wit.querylist import load_queries
from wit.report.facts import Settings
from wit.report.whole import Build, write_report
from wit.store.manifests import File


def run_report(context: Context) -> list[File]:
    """Writes them all; returns name, size and digest of each file."""
    config = context.config
    build = Build(
        out=config.output,
        published=context.published(),
        totals=context.totals(),
        download=context.manifest("download"),
        plan=context.manifest("plan"),
        select=context.manifest("select"),
        plan_facts=context.plan_facts(),
        raw_shards=context.raw_shards(),
        extracted=context.extracted(),
        queries=load_queries(config.queries),
        select_config=config.select,
        formats=stored_formats(config.image),
        settings=Settings(
            sources=config.source,
            languages=config.candidates.languages,
            max_per_query=config.plan.max_per_query,
            oversample=config.plan.oversample,
            heeded=config.fetch.heeded(),
        ),
    )
    return write_report(build)
