"""What the page says of a build."""

import json

import numpy as np
import pyarrow as pa
import pytest

import wit
from wit.querylist import query_list
from wit.report.facts import (
    TOP,
    Coverage,
    QueryRow,
    Settings,
    coverage,
    largest,
    page_facts,
    size_category,
    warnings,
)
from wit.report.hosts import HOSTS, HostFacts
from wit.report.tables import QUERIES, SOURCES, Tables
from wit.select.survival import Shortfall
from wit.store.manifests import Published
from wit.tally import Tally

INF = float("inf")
NOTHING_LACKS = Shortfall(np.zeros(3), np.zeros(3))


def host_facts(*rows: tuple[str, str, int]) -> HostFacts:
    facts = HostFacts()
    table = pa.Table.from_pylist([dict(zip(HOSTS.names, row, strict=True)) for row in rows], schema=HOSTS)
    assert list(facts.watch([table])) == [table]
    return facts


def query_rows(*pairs: int, lacking: int = 0, kept: int = 0) -> pa.Table:
    same = {"planned": 0, "downloaded": 0, "kept": kept, "capped": False, "lacking": lacking}
    rows = [{"query": f"q{i}", "pairs": n} | same for i, n in enumerate(pairs)]
    return pa.Table.from_pylist(rows, schema=QUERIES)


def source_rows(count: int) -> pa.Table:
    same = {"records": 9, "lost": json.dumps({"bad_row": 2}), "unit": "rows"}
    return pa.Table.from_pylist([{"source": f"s{i}"} | same for i in range(count)], schema=SOURCES)


@pytest.mark.parametrize(
    "counts, cap, shape",
    [
        ([0, 1, 9, 10, 250], 100, Coverage([("1 to 9", 2), ("10 to 99", 1), ("100 to 999", 1)], 1, 1, 250 / 270)),
        ([100, 100], 100, Coverage([("1 to 9", 0), ("10 to 99", 0), ("100 to 999", 2)], 0, 0, 0.0)),
        ([5, 7], INF, Coverage([("1 to 9", 2)], 0, 0, 0.0)),
        ([0, 0], 100, Coverage([("1 to 9", 0)], 2, 0, 0.0)),
        ([], 100, Coverage([("1 to 9", 0)], 0, 0, 0.0)),
    ],
)
def test_queries_are_counted_by_powers_of_ten(counts: list[int], cap: float, shape: Coverage) -> None:
    assert coverage(np.array(counts, np.int64), cap) == shape


@pytest.mark.parametrize("bins, fullest", [([("a", 2), ("b", 5), ("c", 0)], 5), ([("a", 0)], 1), ([], 1)])
def test_bars_are_drawn_beside_the_fullest_bin(bins: list[tuple[str, int]], fullest: int) -> None:
    assert Coverage(bins, 0, 0, 0.0).largest == fullest


@pytest.mark.parametrize(
    "pairs, names",
    [
        ((3, 0, 7, 3), ["q2", "q0", "q3"]),  # equal ones in the order of the list, none without any
        ((0, 0), []),
        ((), []),
        (tuple(range(30)), [f"q{i}" for i in range(29, 29 - TOP, -1)]),
    ],
)
def test_the_largest_queries_come_first(pairs: tuple[int, ...], names: list[str]) -> None:
    assert [row.query for row in largest(query_rows(*pairs), "pairs")] == names


def test_a_row_says_what_the_table_says() -> None:
    assert largest(query_rows(0, lacking=4), "lacking") == [QueryRow("q0", 0, 0, 0, 0, False, 4, None)]


def test_warnings_are_sources_that_could_not_be_read_and_what_target_and_queries_lack() -> None:
    assert warnings(source_rows(0), NOTHING_LACKS, oversample=2) == []
    sentences = [f"s{i}: 2 of 9 rows could not be read as pairs (2 bad_row)" for i in range(TOP)]
    assert warnings(source_rows(TOP), NOTHING_LACKS, oversample=2) == sentences
    short = Shortfall(np.array([3.0, 0.0]), np.array([2.5, 0.0]))
    more = "3 more of these: ledger/sources.parquet has them all."
    assert warnings(source_rows(TOP + 3), short, oversample=1.5) == [*sentences, more, short.describe(1.5)]
    assert warnings(source_rows(0), short, oversample=1.5, lacks="too few") == ["too few", short.describe(1.5)]


@pytest.mark.parametrize(
    "samples, name",
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (400_000_000, "100M<n<1B"),
        (10**9, "1B<n<10B"),
        (10**12, "1B<n<10B"),
    ],
)
def test_a_size_has_the_hubs_name(samples: int, name: str) -> None:
    assert size_category(samples) == name


STAGES = {
    "candidates": Tally(into=90, out=40, dropped={"language": 7, "no_query": 43}),
    "plan": Tally(into=40, out=20, dropped={"balanced_out": 20}),
    "download": Tally(into=20, out=15, dropped={"timeout": 5}),
}
PUBLISHED = Published(
    stage="publish",
    fingerprint="0123456789abcdef",
    schema_version=2,
    into=2_500,
    out=2_500,
    dropped={},
    shards=3,
    samples=2_500,
    files=(),
)
QUERY_LIST, SETTINGS = query_list(["q0", "q1", "q2"]), Settings(("demo", "table:x"), ("en", "de"), 20_000, 2.5)


def test_the_facts_of_a_build() -> None:
    hosts = host_facts(("a", "downloaded", 15), ("a", "timeout", 3), ("b", "timeout", 2))
    tables = Tables(source_rows(1), hosts, query_rows(12_000, 0, 5, lacking=1, kept=1))
    facts = page_facts(STAGES, PUBLISHED, tables, QUERY_LIST, SETTINGS, cap=10_000.4, short=NOTHING_LACKS)
    assert (facts.name, facts.version, facts.stages_run) == ("wit-01234567", wit.__version__, tuple(STAGES))
    assert (facts.samples_total, facts.shards_total, facts.size_category) == (2_500, 3, "1K<n<10K")
    assert (facts.candidates_in, facts.survival, facts.hosts_total) == (90, 0.75, 2)
    assert (facts.queries_total, facts.queries_hit, facts.queries_sha256) == (3, 3, QUERY_LIST.digest)
    assert (facts.cap, facts.oversample, facts.max_per_query) == ("10,000", 2.5, 20_000)
    assert (facts.coverage.capped, facts.unmatched, facts.left_for_language) == (1, ["q1"], 7)
    assert (facts.languages, facts.sources) == (("en", "de"), ("demo", "table:x"))
    assert [row.query for row in facts.top_queries] == ["q0", "q2"]
    assert [row.query for row in facts.thin_queries] == ["q0", "q1", "q2"]
    assert [row.host for row in facts.worst_hosts] == ["a", "b"] and len(facts.warnings) == 1


def test_the_facts_of_a_build_that_found_nothing() -> None:
    stages = {name: Tally(into=0, out=0, dropped={}) for name in STAGES}
    tables = Tables(source_rows(0), host_facts(), query_rows(*[0] * 30))
    facts = page_facts(stages, PUBLISHED, tables, QUERY_LIST, SETTINGS, cap=INF, short=NOTHING_LACKS)
    assert (facts.survival, facts.cap, facts.hosts_total, facts.queries_hit) == (0, "none", 0, 0)
    assert facts.unmatched == [f"q{i}" for i in range(TOP)] and facts.left_for_language == 0
