"""Which rows are fetched again, and which rounds of that are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from wit.download.partition import SPLIT, Owner, PartShards, PlanPart, owners_of
from wit.download.retry import (
    TRANSIENT,
    Failed,
    Passes,
    Retried,
    RoundPart,
    account,
    attempted,
    begun,
    failed_rows,
    finished_rounds,
    giants_of,
    has_failed,
    hearing,
    in_rounds,
    lay_out,
    planned,
    reasons_of,
    rows_of_a_partition,
)
from wit.download.rounds import accounting_unit, partition_name
from wit.errors import InputError
from wit.reasons import Reason
from wit.records import PLAN
from wit.store.manifests import Beside, Marker, Unit
from wit.store.parts import StageDir
from wit.tally import Tally
from wit.typed import Rest, dump


@pytest.mark.parametrize(
    "names, failed, reasons",
    [
        (None, False, ()),
        ("", False, ()),
        ("timeout", False, ("timeout",)),
        (" timeout ,, http_gone", False, ("http_gone", "timeout")),
        (None, True, TRANSIENT),
        ("timeout", True, TRANSIENT),
        ("http_gone", True, tuple(sorted((*TRANSIENT, "http_gone")))),
    ],
)
def test_reasons_are_those_named_and_the_passing_ones(
    names: str | None, failed: bool, reasons: tuple[str, ...]
) -> None:
    assert reasons_of(names, failed=failed) == reasons


@pytest.mark.parametrize("name", ["duplicate_bytes", "image_too_smal", "Timeout", "caption_too_short"])
def test_what_no_download_fails_for_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--retry-reason {name}: no such reason of a failed download; "):
        reasons_of(f"timeout,{name}", failed=True)


def test_a_download_has_failed_where_any_of_the_reasons_took_something() -> None:
    tally = Tally(into=9, out=5, dropped={"timeout": 3, "http_gone": 1})
    assert has_failed(tally, ("dns_failed", "http_gone")) and has_failed(tally, ("timeout",))
    assert not has_failed(tally, ("dns_failed",)) and not has_failed(tally, ())


def test_what_passes_is_what_may_go_well_another_time() -> None:
    assert set(TRANSIENT) == {str(reason) for reason in Reason if reason.transient} and list(TRANSIENT) == sorted(
        TRANSIENT
    )
    assert "timeout" in TRANSIENT and "http_gone" not in TRANSIENT


def published(out: str, raw: Any, raw_row: Any) -> tuple[StageDir, list[Marker]]:
    """Two raw shards of 4 rows, of which three were lost."""
    rows = [raw_row(f"{n}", [(f"a dog {n}", [0])], look=None if n % 3 == 1 else n) for n in range(8)]
    manifest = raw(out, {"00000-0000": rows[:4], "00001-0000": rows[4:]})
    return StageDir(out, "download", "d" * 32), list(manifest.parts)


def urls(table: pa.Table) -> set[str]:
    return {url.rpartition("/")[2] for url in table["url"].to_pylist()}


def test_the_rows_that_failed_come_with_the_reason_of_their_last_attempt(
    tmp_path: Path, raw: Any, raw_row: Any
) -> None:
    _, markers = published(str(tmp_path), raw, raw_row)
    first, second = attempted(markers)
    found = pa.concat_tables(failed_rows(str(tmp_path), one, ["http_not_found", "timeout"]) for one in (first, second))
    assert urls(found) == {"1", "4", "7"} and set(found["reason"].to_pylist()) == {"http_not_found"}
    assert len(failed_rows(str(tmp_path), first, ["timeout"])) == 0


def test_a_row_counts_as_its_last_attempt_left_it(tmp_path: Path, raw: Any, raw_row: Any) -> None:
    """Fetched in the first round; failed in both; lost in a partition of the second round that has other rows, too."""

    def rows(numbers: str, there: str = "") -> list[Any]:
        return [raw_row(n, [(f"a dog {n}", [0])], look=int(n) if n in there else None) for n in numbers]

    plan = {
        "00000-0000": rows("01", "0"),
        "00001-0000": rows("23"),
        "00002-0000": rows("4", "4"),
        "00003-0000": rows("5"),
    }
    rounds = {"r0001-0000": rows("12", "2"), "r000100003-0000": rows("5"), "r0002-0000": rows("15", "5")}
    manifest = raw(str(tmp_path), plan | rounds)
    every = attempted(manifest.parts)
    assert [one.name for one in every] == ["00000", "00001", "00003"], "of what arrived nothing is looked at"
    assert [len(one.later) for one in every] == [2, 2, 2]
    found = {one.name: urls(failed_rows(str(tmp_path), one, ["http_not_found"])) for one in every}
    assert found == {"00000": {"1"}, "00001": {"3"}, "00003": set()}


def lost(name: str, rows: int) -> Failed:
    return Failed(name, {"timeout": rows} if rows else {})


@pytest.mark.parametrize(
    "rows, giants, parts",
    [
        ([], {}, []),
        ([0, 0], {}, []),
        ([3, 0, 4], {}, ["02"]),  # few rows: one partition, as ever
        ([6, 4, 5, 5, 1], {}, ["01", "23", "4"]),
        ([0, 6, 6], {}, ["1", "2"]),
        ([15, 2], {}, ["0", "1"]),  # a partition of the plan is not cut
        ([2, 2, 5, 4], {2: 0, 3: 0}, ["01", "23"]),  # nor is a giant, if it fits
        ([2, 8, 4, 8, 2], {1: 0, 2: 0, 3: 0}, ["0", "1", "2", "3", "4"]),
        ([2, 5, 5, 5, 9], {1: 0, 2: 0, 3: 0, 4: 1}, ["0", "12", "3", "4"]),
        ([9, 1, 9], {0: SPLIT, 2: SPLIT}, ["01", "2"]),
    ],
)
def test_a_round_is_cut_into_partitions_where_the_plan_was(
    rows: list[int], giants: dict[int, int], parts: list[str]
) -> None:
    plan = [PlanPart(PartShards(f"{n:05d}", "", ()), 0, giants.get(n)) for n in range(len(rows))]
    found = [lost(f"{n:05d}", count) for n, count in enumerate(rows)]
    laid = lay_out(1, found[::-1], giants_of(plan), rows_per_partition=10)
    assert ["".join(str(int(name)) for name in part.of) for part in laid] == parts
    assert [part.name for part in laid] == [
        "r0001" if n == 0 else f"r00010000{part[0]}" for n, part in enumerate(parts)
    ]


def test_a_giant_has_one_owner_in_a_round_too() -> None:
    names = [f"{n:05d}" for n in range(6)]
    giants: dict[str, int | None] = dict(zip(names, (None, None, 0, 0, 1, 1), strict=True))
    found = [lost(name, 8) for name in names]
    parts = lay_out(3, found, giants, rows_per_partition=10)
    plan = planned("out", parts, found, giants, 5)
    assert [(one.rows, one.part.shards) for one in plan] == [(8, (0, 1))] * 6
    owners = owners_of(plan)
    chains = [[[part.name for part in chain] for chain in owner.chains] for owner in owners]
    assert chains == [[["r000300002", "r000300003"], ["r000300004", "r000300005"]], [["r0003"]], [["r000300001"]]]
    old = giants_of([PlanPart(PartShards(name, "", ()), 0, SPLIT if name == names[0] else None) for name in names])
    parts = lay_out(3, found, old, rows_per_partition=10)
    (owner,) = owners_of(planned("out", parts, found, old, 5))
    assert len(owner.chains) == 1 and len(owner.chains[0]) == 6, "version 0.1 split domains over its partitions"


def test_an_owner_hears_what_earlier_owners_of_its_domains_were_told() -> None:
    def shard(partition: str, *beside: str) -> Marker:
        kept = tuple(Beside(f"raw/{name}.robots.json") for name in beside)
        return replace(marked(Unit.raw(partition, 0)), beside=kept)

    markers = [
        *(shard("00000", "00000"), shard("00001"), shard("00002", "00001-giants")),
        *(marked(accounting_unit(1), -3), shard("r0001", "r0001"), shard("r000100002", "r0001")),
    ]
    parts = [RoundPart("r0002", ("00000",)), RoundPart("r000200001", ("00001", "00002"))]
    owners = [Owner(part.name, ((PartShards(part.name, "", (0,)),),)) for part in parts]
    first, second = hearing(owners, parts, markers)
    assert first.hears == ("raw/00000.robots.json", "raw/r0001.robots.json")
    assert second.hears == ("raw/00001.robots.json", "raw/00001-giants.robots.json", "raw/r0001.robots.json")


def write_round(stage: StageDir, number: int, markers: list[Marker], reasons: list[str], most: float) -> list[PlanPart]:
    """All passes of a round, as any engine runs them."""
    facts = begun(stage, number, reasons)
    passes = Passes(stage.out, tuple(reasons), 2)
    found = [passes.find(one) for one in attempted(markers)]
    giants: dict[str, int | None] = {one.name: None for one in found}
    parts = lay_out(number, found, giants, rows_per_partition=most if facts is None else rows_of_a_partition(facts, 1))
    written = [passes.write(part) for part in parts]
    plan = planned(stage.out, written, found, giants, 2)
    account(stage, number, reasons, found, plan)
    return plan


@pytest.mark.parametrize("most, shards", [(10, {"r0001": 2}), (1, {"r0001": 1, "r000100001": 1})])
def test_a_round_accounts_for_its_rows_and_another_of_other_reasons_takes_its_place(
    most: int, shards: dict[str, int], tmp_path: Path, raw: Any, raw_row: Any
) -> None:
    stage, markers = published(str(tmp_path), raw, raw_row)
    reasons = ["http_not_found"]
    plan = write_round(stage, 1, markers, reasons, most)
    assert {one.part.name: len(one.part.shards) for one in plan} == shards
    marker = stage.marker(accounting_unit(1))
    assert marker is not None and (marker.into, marker.out, marker.dropped) == (-3, 0, {"http_not_found": -3})
    assert stage.facts(marker, Retried) == Retried(("http_not_found",), shards if len(shards) > 1 else None)
    files = [pa.parquet.ParquetFile(one.part.path) for one in plan]
    assert set().union(*(urls(file.read()) for file in files)) == {"1", "4", "7"}
    assert [file.num_row_groups for file in files] == list(shards.values())
    for file in files:
        assert file.schema_arrow.names == PLAN.names
        assert (keys := file.read()["key"].to_pylist()) == sorted(keys)

    mine, other = [Unit.raw(name, 0) for name in shards], Unit.raw(partition_name(2), 0)
    for unit in (*mine, other):
        stage.publish(unit, {}, Tally(into=2, out=2, dropped={}))
    again = write_round(stage, 1, markers, reasons, most)
    assert again == plan and all(stage.marker(unit) for unit in mine), "the same round goes on, cut as it was"
    assert write_round(stage, 1, markers, ["timeout"], most) == []
    marker = stage.marker(accounting_unit(1))
    assert marker is not None and (marker.into, marker.dropped) == (0, {})
    assert not any(stage.marker(unit) for unit in mine), "what was of the round alone is forgotten"
    assert stage.marker(other) is not None


def marked(unit: Unit, into: int = 0) -> Marker:
    return Marker(into=into, out=0, dropped={}, unit=unit, fingerprint="", files={})


def of_several(number: int, into: int, shards: dict[str, int]) -> list[Marker]:
    """A round of several partitions, whole."""
    accounting = replace(marked(accounting_unit(number), into), facts=Rest(dump(Retried(shards=shards))))
    return [accounting, *(marked(Unit.raw(name, shard)) for name, count in shards.items() for shard in range(count))]


def shards_of(number: int, count: int) -> list[Marker]:
    return [marked(Unit.raw(partition_name(number), shard)) for shard in range(count)]


@pytest.mark.parametrize(
    "markers, rounds, found",
    [
        ([], 0, 0),
        ([marked(Unit.raw("00000", 0))], 0, 0),
        ([marked(accounting_unit(1), -5), *shards_of(1, 3)], 1, 4),
        ([marked(accounting_unit(1), -5), *shards_of(1, 2)], 0, 0),  # one is missing
        ([marked(accounting_unit(1), -4), *shards_of(1, 3)], 1, 3),  # one too many is not of it
        ([marked(accounting_unit(1), 0)], 1, 1),  # a round of nothing
        ([marked(accounting_unit(2), -2), *shards_of(2, 1)], 0, 0),  # without the first
        ([marked(accounting_unit(1), -2), *shards_of(1, 1), marked(accounting_unit(2), -3), *shards_of(2, 2)], 2, 5),
        ([marked(accounting_unit(1), -2), *shards_of(1, 1), marked(accounting_unit(2), -3), *shards_of(2, 1)], 1, 2),
        (of_several(1, -7, {"r0001": 2, "r000100012": 2}), 1, 5),
        (of_several(1, -7, {"r0001": 2, "r000100012": 2})[:-1], 0, 0),
        ([*of_several(1, -3, {"r0001": 1, "r000100012": 1}), marked(accounting_unit(2), -3), *shards_of(2, 2)], 2, 6),
    ],
)
def test_a_round_is_finished_where_all_its_shards_are_there(
    markers: list[Marker], rounds: int, found: int, tmp_path: Path
) -> None:
    stage = StageDir(str(tmp_path), "download", "")
    for marker in markers:
        stage.publish(marker.unit, {}, marker, facts=marker.facts)
    number, of_rounds = finished_rounds(stage, 2)
    assert (number, len(of_rounds)) == (rounds, found)
    assert of_rounds == [marker for marker in markers if marker in of_rounds], "accounting first, then its shards"


def test_rounds_stand_behind_the_plans_shards_each_after_its_accounting() -> None:
    plan = [marked(Unit.raw(partition, shard)) for partition in ("00000", "00001") for shard in range(2)]
    rounds = [one for number in (1, 2) for one in (marked(accounting_unit(number), -3), *shards_of(number, 2))]
    several = of_several(3, -7, {"r0003": 2, "r000300001": 2})
    assert in_rounds([*several[::-1], *rounds[::-1], *plan[::-1]]) == [*plan, *rounds, *several]
