"""report: ledger and tables -> ledger.json, ledger/, report/index.html, dataset card, Croissant. Pieces are read by workers; what
they add is summed and merged."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import apache_beam as beam

from pipelines.combine import Summed, SumWith
from pipelines.context import Context
from pipelines.gather import gather, scratch_folder
from wit.download.published import FetchedShard
from wit.images.process import stored_formats
from wit.querylist import load_queries
from wit.report.facts import Settings
from wit.report.passes import COUNTS, Counts, Passes, Piece, PieceRead, Smallest, pieces, sums
from wit.report.whole import Build, write_report
from wit.select.passes import lacking
from wit.store.manifests import File
from wit.store.roster import roster


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Summarise(beam.PTransform):  # type: ignore[misc]
    """Pieces of a set -> what they add up to: Counts, PieceRead, Smallest."""

    passes: Passes

    def expand(self, every: beam.PCollection) -> beam.PCollection:
        """A piece is read once."""
        report = self.passes
        read = every | "Read" >> beam.Map(report.summarise)
        counts = (
            read
            | "CountsOf" >> beam.Map(lambda piece: piece.counts)
            | "Sum" >> Summed((len(COUNTS), report.query_count))
            | "Save" >> beam.Map(report.save)
        )
        pieces_read = read | "PieceRead" >> beam.Map(lambda piece: piece.read)
        smallest = (
            read
            | "SmallestOf" >> beam.Map(lambda piece: piece.smallest)
            | "OfAll" >> beam.CombineGlobally(SumWith(report.first))
            | "Smallest" >> beam.Map(Smallest)
        )
        return (counts, pieces_read, smallest) | beam.Flatten()


def run_report(context: Context) -> list[File]:
    """Writes all files of the report; returns name, size and digest of each."""
    config, out = context.config, context.config.output
    raw, queries = context.raw_shards(), load_queries(config.queries)
    every = pieces(raw, context.manifest("plan"), context.manifest("select"), context.published())
    with contextlib.ExitStack() as held:
        folder = held.enter_context(scratch_folder(out))
        again = [shard for shard in raw if shard.unit.is_retry]
        retries = held.enter_context(roster(again, FetchedShard, out=out))
        passes = Passes(out, folder, len(queries), config.select, retries)
        kinds = Counts | PieceRead | Smallest
        added = sums(gather(context.engine, every, Piece, Summarise(passes).expand, kinds, out=out), len(every))
        build = Build(
            out=out,
            published=context.published(),
            totals=context.totals(),
            plan_facts=context.plan_facts(),
            extracted=context.extracted(),
            queries=queries,
            formats=stored_formats(config.image),
            settings=Settings(
                sources=config.source,
                languages=config.candidates.languages,
                max_per_query=config.plan.max_per_query,
                oversample=config.plan.oversample,
                heeded=config.fetch.heeded(),
            ),
            lacks=lacking(context.stage("select"), context.manifest("select"), oversample=config.plan.oversample),
        )
        return write_report(build, added)
