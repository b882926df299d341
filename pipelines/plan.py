"""plan: candidates -> one row per URL, balanced, in shard lists by host partition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList, AsSingleton

from pipelines import progress
from pipelines.combine import FindRanks, Summed, SumWith
from pipelines.context import Context
from pipelines.gather import gather_apart, remove_work
from pipelines.progress import Counted
from pipelines.shuffle import Shuffled, once_read
from pipelines.spent import Spend, made
from wit.plan import balance
from wit.plan.facts import RATES
from wit.plan.owners import add_owners, rates_of
from wit.plan.passes import (
    HANDED_ON,
    OF_BUCKETS,
    OF_PARTITIONS,
    SPENT,
    Bucket,
    CandidatesPart,
    Passes,
    Wanted,
    passes,
    wanted_units,
)
from wit.plan.threshold import begin, effective_counts, solve
from wit.store.manifests import Manifest, Marker
from wit.store.packed import Packed
from wit.store.shuffle import Shuffle

UNITS_A_BUCKET = 4  # merge, thin, admit, and about one partition


def _thin(joined: tuple[int, dict[str, Any]], thin: Any) -> Iterator[Bucket]:
    """Each bucket of a block with what is too frequent in the block."""
    pieces = [piece for pieces in joined[1]["frequent"] for piece in pieces]
    for bucket in joined[1]["buckets"]:
        yield thin(bucket, pieces)


def _counted(bucket: Bucket) -> tuple[Marker, ...]:
    return bucket.counted


def _handed_on(bucket: Bucket, _: Any) -> tuple[Marker, ...]:
    return bucket.handed_on


@dataclass(eq=False)  # not frozen: Beam sets attributes of its own
class Plan(beam.PTransform):  # type: ignore[misc]
    """Candidates parts -> the markers of all passes, partitions last, and which units were wanted. Every pass publishes its
    parts, so a restart resumes in the middle. By files, rows are removed as soon as all of the next pass are there."""

    passes: Passes
    by_engine: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.by_engine = self.by_engine and not self.passes.is_spent

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        """The passes in order; those that add up over buckets reach later ones as side inputs."""
        plan = self.passes
        by_url = parts | "ByUrl" >> self.shuffled(plan.by_url, plan.scatter)
        barrier = once_read(plan.by_url, by_url, self.by_engine)
        merged = by_url.buckets | "Merge" >> beam.Map(Counted(plan.merge)) | "Merged" >> barrier
        by_name = merged | "ByName" >> self.shuffled(plan.by_name, plan.count)
        frequent = by_name.buckets | "Frequent" >> self.shuffled(plan.frequent, plan.find_frequent)
        thinned = (
            {"buckets": merged | "ByBlock" >> beam.Map(plan.by_block), "frequent": frequent.buckets}
            | "WithFrequent" >> beam.CoGroupByKey()
            | "Thin" >> beam.FlatMap(_thin, Counted(plan.thin))
        )
        weighed, threshold, facts = self.counted_before(thinned) if plan.threshold else self.counted(thinned)
        by_host = weighed | "ByHost" >> self.shuffled(plan.by_host, plan.own, AsSingleton(threshold))
        by_domain = by_host.buckets | "ByDomain" >> self.shuffled(plan.by_domain, plan.add_hosts)
        owners = (
            by_host.buckets | "Hosts" >> beam.Map(plan.find_hosts),
            by_domain.buckets | "Domains" >> beam.Map(plan.find_domains),
        ) | "Owners" >> beam.Flatten()
        all_owners = owners | "AddUp" >> beam.CombineGlobally(SumWith(add_owners))
        routing = all_owners | "Routing" >> beam.Map(plan.routing, AsSingleton(threshold))
        read = weighed | "HandedOn" >> beam.FlatMap(_handed_on, AsSingleton(facts))
        admit = Shuffled(
            plan.by_partition,
            plan.admit,
            self.by_engine,
            (AsSingleton(threshold), AsSingleton(routing)),
            Spend(plan.work, HANDED_ON, read, SPENT),
        )
        by_partition = weighed | "ByPartition" >> admit
        arranged = by_partition.buckets | "Arrange" >> beam.Map(Counted(plan.arrange), AsSingleton(routing))
        wanted = [
            self.wanted(by_url.buckets, "Buckets", OF_BUCKETS),
            self.wanted(by_partition.buckets, "Partitions", OF_PARTITIONS),
        ]
        begun = parts.pipeline | "Begun" >> beam.Create([plan.stage.marker(RATES)], reshuffle=False)
        of_buckets = weighed | "Counted" >> beam.FlatMap(_counted)
        return (
            begun,
            by_url.counted,
            of_buckets,
            facts,
            by_partition.counted,
            arranged,
            *wanted,
        ) | "Units" >> beam.Flatten()

    def counted(self, thinned: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
        """(weighed buckets, the threshold, the marker of the facts): what is counted over all buckets, and follows."""
        plan, config = self.passes, self.passes.config
        counts = thinned | "CountQueries" >> beam.Map(plan.count_queries) | "SumCounts" >> Summed((plan.query_count,))
        weights = counts | "Weights" >> beam.Map(effective_counts, AsList(self.hard_counts(thinned, counts)))
        weighed = thinned | "Weigh" >> beam.Map(Counted(plan.weigh), AsSingleton(weights))
        cells = weighed | "Histogram" >> beam.Map(plan.histogram) | "SumCells" >> Summed((1 << balance.CELL_BITS,))
        threshold = cells | "Solve" >> beam.Map(solve, AsSingleton(self.searched(weighed)), config=config)
        facts = threshold | "Facts" >> beam.Map(plan.publish_facts, AsSingleton(counts), AsSingleton(weights))
        return weighed, threshold, facts

    def counted_before(self, thinned: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection, beam.PCollection]:
        """As `counted`, where an earlier start came so far: nothing is counted again."""
        plan = self.passes
        threshold = thinned.pipeline | "Threshold" >> beam.Create([plan.threshold], reshuffle=False)
        facts = thinned.pipeline | "Facts" >> beam.Create([plan.facts], reshuffle=False)
        weights = facts | "Weights" >> beam.Map(plan.weights_before)
        return thinned | "Weigh" >> beam.Map(Counted(plan.weigh), AsSingleton(weights)), threshold, facts

    def shuffled(self, shuffle: Shuffle, task: Any, *sides: Any) -> Shuffled:
        return Shuffled(shuffle, task, self.by_engine, sides)

    def wanted(self, grouped: beam.PCollection, name: str, kinds: tuple[str, ...]) -> beam.PCollection:
        """The units that follow from shuffled slices, as one element: a few bytes for each of some 40,000."""
        return (
            grouped
            | name >> beam.Keys()
            | f"All{name}" >> beam.combiners.ToList()
            | f"Wanted{name}" >> beam.Map(Wanted.of, kinds=kinds)
        )

    def searched(self, weighed: beam.PCollection) -> beam.PCollection:
        """The search for a target's cap when it is done; one for nothing where the cap is given."""
        begun = weighed.pipeline | "BeginSearch" >> beam.Create([begin(self.passes.config)], reshuffle=False)
        return begun if self.passes.config.target is None else begun | "Find" >> FindRanks(weighed, self.passes.rank)

    def hard_counts(self, thinned: beam.PCollection, counts: beam.PCollection) -> beam.PCollection:
        """(query, effective count) of the queries that `--cap hard` bounds; none for an expected cap."""
        if self.passes.config.cap == "expected":
            return counts.pipeline | "NoHardCap" >> beam.Create([], reshuffle=False)
        return (
            thinned
            | "SmallestDraws" >> beam.FlatMap(self.passes.smallest_draws, AsSingleton(counts))
            | "ByQuery" >> beam.GroupByKey()
            | "HardCounts" >> beam.Map(self.passes.hard_count)
        )


def run_plan(context: Context) -> Manifest:
    """Runs the stage and writes its manifest: parts by host partition, and the facts that select and report read."""
    config, stage = context.config.plan, context.stage("plan")
    candidates, above = context.manifest("candidates"), context.stage("candidates")
    parts = [CandidatesPart(part.unit.as_("scatter"), above.file(part, "rows")) for part in candidates.parts]
    rates, rows = rates_of(config, context.config.fetch), candidates.out

    def make() -> tuple[Packed[Marker], list[Wanted]]:
        all_passes = passes(
            stage,
            config,
            queries=context.config.queries,
            seed=context.seed,
            rows=rows,
            rates=rates,
            parts=len(parts),
            rows_a_key=context.config.rows_per_key,
        )
        plan = Plan(all_passes, context.by_engine)
        expected = len(parts) + UNITS_A_BUCKET * all_passes.shape.buckets
        return gather_apart(
            context.engine,
            parts,
            CandidatesPart,
            lambda every: every | plan,
            Marker,
            (Wanted,),
            out=stage.out,
            expected=expected,
        )

    with progress.bar("plan", stage, total=None, unit="units"):
        units, follow = made(stage, make)
    there = stage.present()
    wanted = wanted_units((part.unit for part in parts), follow)
    markers = stage.standing(units, there)
    manifest = stage.finish(markers, wanted, there=there)
    remove_work(context.engine, stage)
    return manifest
