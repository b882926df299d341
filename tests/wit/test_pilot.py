"""A finished build as a pilot: sets of every version that landed are read, and what is none is refused in one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wit.errors import DamagedFile, InputError
from wit.pilot import chances, draws_of, read_pilot
from wit.runfile import sealed
from wit.typed import to_json

FIXTURES = Path(__file__).parents[1] / "fixtures/upgrade"
VERSIONS = sorted(path.name.removesuffix(".tar.xz") for path in FIXTURES.glob("*.tar.xz"))


@pytest.fixture
def finished(earlier: Callable[..., Path]) -> Path:
    return earlier()


def change_run(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """run.json with a change, under a digest that is right."""
    run = json.loads((out / "run.json").read_bytes())
    change(run)
    (out / "run.json").write_bytes(sealed(run))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("state", ["finished", "retried"])
def test_sets_of_every_version_are_pilots(version: str, state: str, earlier: Callable[..., Path]) -> None:
    out = earlier(version, state)
    pilot = read_pilot(str(out))
    tables = [pq.read_table(path, use_threads=False) for path in out.glob("raw/*.fetch.parquet")]
    assert pilot.samples == len(list_of_samples(out)) and pilot.planned == sum(pilot.hosts["rows"].to_pylist())
    assert pilot.fetched.attempts == sum(sum(table["attempts"].to_pylist()) for table in tables) >= pilot.planned - 1
    wire = "wire_bytes" if "wire_bytes" in tables[0].schema.names else "bytes"
    assert pilot.fetched.wire_bytes == sum(sum(table[wire].to_pylist()) for table in tables) > 0
    assert (pilot.source.kind, pilot.source.files) == ("table", 1) and pilot.source.rows >= pilot.candidates
    assert pilot.seconds["download"] > 0 and pilot.cores == 1 and len(pilot.draws.weights) == pilot.samples
    assert pilot.stored["publish"].pictures == sum(path.stat().st_size for path in out.glob("shards/*.tar"))


def list_of_samples(out: Path) -> list[str]:
    tables = [pq.read_table(path, columns=["key"], use_threads=False) for path in out.glob("shards/*.parquet")]
    return [key for table in tables for key in table["key"].to_pylist()]


def test_a_directory_without_a_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no build in .*: give the --output directory"):
        read_pilot(str(tmp_path))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_interrupted_build_is_refused(version: str, earlier: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="download is still to come|has no raw/_MANIFEST.json"):
        read_pilot(str(earlier(version, "interrupted")))


@pytest.mark.parametrize("gone", ["candidates", "plan", "raw", "select", "shards"])
def test_a_stage_that_is_gone_is_named(gone: str, finished: Path) -> None:
    shutil.rmtree(finished / gone)
    with pytest.raises(InputError, match=f"has no {gone}/_?MANIFEST.json"):
        read_pilot(str(finished))


def test_a_stage_that_is_being_made_anew_is_named(finished: Path) -> None:
    change_run(finished, lambda run: run["rebuild"].update(pending=["publish", "select"]))
    with pytest.raises(InputError, match="is not finished: select is still to come"):
        read_pilot(str(finished))


def test_a_build_that_kept_nothing_is_refused(finished: Path) -> None:
    manifest = json.loads((finished / "shards/MANIFEST.json").read_bytes())
    manifest |= {"in": 0, "out": 0, "samples": 0}
    (finished / "shards/MANIFEST.json").write_bytes(to_json(manifest))
    with pytest.raises(InputError, match="kept nothing"):
        read_pilot(str(finished))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda run: run["timings_s"].update(plan=float("nan")), "timings_s of plan is nan"),
        (lambda run: run["timings_s"].update(plan=-1), "timings_s of plan is -1"),
        (lambda run: run["timings_s"].update(plan="soon"), "timings_s: 'soon' is of another type"),
        (lambda run: run["config"].update(workers="many"), "workers is 'many'"),
        (lambda run: run["config"].update(workers=-3), "workers is -3"),
        (lambda run: run["config"]["plan"].update(oversample="two"), "oversample: 'two' is of another type"),
        (lambda run: run["config"]["plan"].update(rows_per_partition=0), "--rows-per-partition is 0"),
        (lambda run: run["config"]["fetch"].update(in_flight=0), "--in-flight is 0"),
        (lambda run: run["config"]["publish"].update(samples_per_shard=0), "samples_per_shard is 0"),
        (lambda run: run["config"]["sources"].update(source_requests_per_s=0), "source_requests_per_s is 0"),
        (lambda run: run["config"].update(rows_per_key=True), "rows_per_key is True"),
        (lambda run: run.update(config=[]), "config"),
    ],
)
def test_a_run_json_that_cannot_be_meant_is_one_sentence(
    change: Callable[[dict[str, Any]], object], said: str, finished: Path
) -> None:
    change_run(finished, change)
    with pytest.raises(InputError, match=said):
        read_pilot(str(finished))


@pytest.mark.parametrize("source", [[], "demo", [7], ["commoncrawl:CC-MAIN-2026-43:files=many"], None])
def test_a_source_that_says_nothing_is_no_error(source: object, finished: Path) -> None:
    change_run(finished, lambda run: run["config"].update(source=source))
    assert read_pilot(str(finished)).source.crawl_files is None


@pytest.mark.parametrize(
    "spec, files",
    [("commoncrawl:X", 1), ("commoncrawl:X:files=1", None), ("commoncrawl:X:files=9", 1), ("wat:x", None)],
)
def test_a_crawl_that_was_read_whole_tells_how_many_files_it_has(spec: str, files: int | None, finished: Path) -> None:
    change_run(finished, lambda run: run["config"].update(source=[spec]))
    assert read_pilot(str(finished)).source.crawl_files == files


def test_cores_are_not_those_of_the_driver_where_an_engine_had_its_own(finished: Path) -> None:
    change_run(finished, lambda run: run.update(beam_flags=["--runner=SparkRunner"]))
    assert read_pilot(str(finished)).cores == 0


def test_what_does_not_add_up_is_a_damaged_manifest(finished: Path) -> None:
    manifest = json.loads((finished / "select/_MANIFEST.json").read_bytes())
    (finished / "select/_MANIFEST.json").write_bytes(to_json(manifest | {"out": manifest["out"] + 1}))
    with pytest.raises(DamagedFile, match="select/_MANIFEST.json is damaged"):
        read_pilot(str(finished))


def test_a_query_that_is_twice_in_a_caption_of_two_counts_for_its_sample() -> None:
    captions = [[{"query_ids": [3, 5]}, {"query_ids": []}], [], [{"query_ids": [3]}]]
    kind = pa.list_(pa.struct([("query_ids", pa.list_(pa.int32()))]))
    tables = [pa.table({"captions": pa.array(some, kind)}) for some in (captions[:2], captions[2:])]
    samples, sample, query = draws_of(tables)
    assert (samples, sample.tolist(), query.tolist()) == (3, [0, 0, 2], [3, 5, 3])
    shares = np.array([0.5, 0.5, 2.0])
    assert chances(samples, sample, shares).tolist() == pytest.approx([0.75, 1.0, 1.0])
