"""All of the report, of what stages left."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from wit.candidates.passes import Extracted
from wit.download.published import raw_shards
from wit.images.formats import FORMATS
from wit.layout import PAGE_FILE, REPORT_FILES
from wit.ledger import LedgerFile
from wit.plan.facts import QUERIES, Solved, read_facts
from wit.publish.config import PublishConfig
from wit.querylist import load_queries
from wit.report.facts import Settings
from wit.report.passes import Passes, Piece, Smallest, Sums, pieces, sums
from wit.report.whole import Build, write_report
from wit.select.config import SelectConfig
from wit.store import parquet
from wit.store.manifests import Manifest, Unit, described, read_json
from wit.store.parts import StageDir
from wit.tally import NOTHING, Tally

PAIRS, CAP = 40, 6.0
SOURCE = {"path": "a.warc", "records": 5, "pages": 4, "pairs": 40, "bytes": 70, "lost": {"bad_json": 1}, "error": None}


@pytest.fixture
def left(tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, run_select: Any, run_publish: Any) -> "Left":
    """40 pairs of three queries on three raw shards, of which every fifth picture did not arrive; a fourth query has none."""
    out, names = str(tmp_path / "set"), tmp_path / "queries.txt"
    names.write_text("dog\ncat\nphoto\nokapi\n")
    rows = [
        raw_row(f"{i}", [(f"é {i}", [i % 3])], look=None if i % 5 == 0 else i, phash=i * 0x9E3779B97F4A7C15 % 2**63)
        for i in range(PAIRS)
    ]
    plan_dir, counts = StageDir(out, "plan", "p" * 32), np.array([14, 13, 13, 0])
    download = raw(out, {f"0000{i}-0000": rows[i::3] for i in range(3)})
    tables = [parquet.read_table(f"{out}/{part.files['parquet'].name}", ["captions"]) for part in download.parts]
    all_of_it = Tally(into=PAIRS, out=PAIRS, dropped={})
    plan_dir.publish_tables(Unit.numbered("part", 0), {"rows": pa.concat_tables(tables)}, all_of_it)
    table = pa.table({"pairs": counts, "weight": counts.astype(np.float64)})
    plan_dir.publish_tables(QUERIES, {"rows": table}, NOTHING, facts=Solved(None, CAP))
    plan = plan_dir.finish(plan_dir.markers(), [])
    chosen = run_select(out, download, counts, CAP, str(names), config=SelectConfig(), seed=1)
    published = run_publish(out, chosen, config=PublishConfig(samples_per_shard=7), seed=1)
    totals = {"candidates": all_of_it, "plan": plan, "download": download, "select": chosen, "publish": published}
    build = Build(
        out=out,
        published=published,
        totals=totals,
        plan_facts=read_facts(plan_dir, plan, oversample=2.0),
        extracted=[Extracted((SOURCE,))],
        queries=load_queries(str(names)),
        formats=[FORMATS["jpg"]],
        settings=Settings(("demo",), ("en",), int(CAP), 4.0),
    )
    return Left(build, summed(build, pieces(raw_shards(download), plan, chosen, published)))


def summed(build: Build, every: list[Piece]) -> Sums:
    """What the passes give, one after the other."""
    passes = Passes(build.out, f"{build.out}/_tmp/report", len(build.queries), SelectConfig(), ())
    read = [passes.summarise(piece) for piece in every]
    smallest = Smallest(passes.first(one.smallest for one in read))
    return sums([passes.save(sum(one.counts for one in read)), *(one.read for one in read), smallest], len(every))


class Left(NamedTuple):
    """What stages left of a build, and what the report's passes made of it."""

    build: Build
    sums: Sums

    @property
    def out(self) -> str:
        return self.build.out

    def but(self, **changed: Any) -> "Left":
        return self._replace(build=replace(self.build, **changed))


def table_of(build: Left, name: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = parquet.read_table(f"{build.out}/ledger/{name}.parquet").to_pydict()
    return columns


def written(build: Left) -> dict[str, bytes]:
    return {name: Path(build.out, name).read_bytes() for name in REPORT_FILES}


def test_every_file_is_written_and_described(left: Left) -> None:
    assert write_report(*left) == [described(left.out, name) for name in REPORT_FILES]
    ledger = read_json(f"{left.out}/ledger.json", LedgerFile)
    assert ledger is not None and ledger.samples == left.build.published.samples > 2 * 7
    assert {name: stage.out for name, stage in ledger.stages.items()} == {
        n: t.out for n, t in left.build.totals.items()
    }
    tars = [file["@id"] for file in json.loads(written(left)["croissant.json"])["distribution"][:-1]]
    assert tars == [f"{i:05d}.tar" for i in range(left.build.published.shards)]
    assert written(left)[PAGE_FILE].count(b"<figure>") == left.build.published.samples
    assert f"{left.build.published.samples} image-text pairs" in written(left)["README.md"].decode()


def test_the_tables_count_what_the_stages_hold(left: Left) -> None:
    write_report(*left)
    assert table_of(left, "sources")["source"] == ["a.warc"]
    hosts = table_of(left, "hosts")
    assert (hosts["outcome"], hosts["pairs"]) == (["downloaded", "http_not_found"], [32, 8])
    queries = table_of(left, "queries")
    assert queries["query"] == ["dog", "cat", "photo", "okapi"]
    assert queries["pairs"] == queries["planned"] == [14, 13, 13, 0]
    arrived = [i % 3 for i in range(PAIRS) if i % 5]
    assert queries["downloaded"] == [arrived.count(query) for query in range(4)]
    assert sum(queries["kept"]) == left.build.published.samples
    assert queries["capped"] == [True, True, True, False] and sum(queries["lacking"]) == 0


def test_what_queries_lack_is_measured_by_the_survival_of_their_pairs(left: Left) -> None:
    write_report(*left.but(settings=replace(left.build.settings, oversample=1.0)))
    rows = parquet.read_table(f"{left.out}/ledger/queries.parquet").to_pylist()
    lacking = [row for row in rows if row["lacking"]]
    assert lacking and all(row["kept"] < CAP for row in lacking)
    assert all(row["enough_oversample"] == row["planned"] / row["downloaded"] for row in lacking)
    assert f"{len(lacking)} queries end below their cap" in written(left)[PAGE_FILE].decode()


def test_written_again_it_has_the_same_bytes_also_without_the_candidates(left: Left) -> None:
    write_report(*left)
    before = written(left)
    write_report(*left.but(extracted=None))
    assert written(left) == before and b"1 records could not be read" in before[PAGE_FILE]


def test_a_ledger_that_does_not_add_up_is_not_written(left: Left) -> None:
    wrong = left.build.totals | {"candidates": Tally(into=PAIRS, out=PAIRS - 1, dropped={})}
    with pytest.raises(RuntimeError, match="add up: candidates: 40 in, but 39 out and 0 dropped; plan: 40 in, but"):
        write_report(*left.but(totals=wrong))
    assert not any(Path(left.out, name).exists() for name in REPORT_FILES)
