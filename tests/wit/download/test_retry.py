"""Which rows are fetched again, and which rounds of that are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from wit.download.retry import (
    TRANSIENT,
    accounting_unit,
    failed_rows,
    finished_rounds,
    has_failed,
    in_rounds,
    partition_name,
    reasons_of,
    write_round,
)
from wit.errors import InputError
from wit.reasons import Reason
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir
from wit.tally import Tally


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


def test_the_rows_that_failed_come_in_the_order_of_their_keys_with_their_reason(
    tmp_path: Path, raw: Any, raw_row: Any
) -> None:
    _, markers = published(str(tmp_path), raw, raw_row)
    found = failed_rows(str(tmp_path), markers, ["http_not_found", "timeout"])
    assert urls(found) == {"1", "4", "7"} and set(found["reason"].to_pylist()) == {"http_not_found"}
    assert found["key"].to_pylist() == sorted(found["key"].to_pylist())
    assert len(failed_rows(str(tmp_path), markers, ["timeout"])) == 0
    assert len(failed_rows(str(tmp_path), [], ["timeout"])) == 0


def test_a_round_accounts_for_its_rows_and_another_of_other_reasons_takes_its_place(
    tmp_path: Path, raw: Any, raw_row: Any
) -> None:
    stage, markers = published(str(tmp_path), raw, raw_row)
    reasons = ["http_not_found"]
    path, shards, marker = write_round(stage, 1, markers, reasons, rows_per_shard=2)
    assert shards == 2 and marker.unit == accounting_unit(1)
    assert (marker.into, marker.out, marker.dropped) == (-3, 0, {"http_not_found": -3})
    first = pa.parquet.ParquetFile(path)
    assert urls(first.read()) == {"1", "4", "7"} and first.num_row_groups == 2
    assert "reason" not in first.schema_arrow.names

    shard, other = Unit.raw(partition_name(1), 0), Unit.raw(partition_name(2), 0)
    for unit in (shard, other):
        stage.publish(unit, {}, Tally(into=2, out=2, dropped={}))
    again = write_round(stage, 1, markers, reasons, rows_per_shard=2)
    assert again == (path, shards, marker) and stage.marker(shard) is not None, "the same round goes on"
    none, no_shards, marker = write_round(stage, 1, markers, ["timeout"], rows_per_shard=2)
    assert (none, no_shards, marker.into, marker.dropped) == (path, 0, 0, {})
    assert stage.marker(shard) is None and stage.marker(other) is not None, "what was of the round alone is forgotten"


def marked(unit: Unit, into: int = 0) -> Marker:
    return Marker(into=into, out=0, dropped={}, unit=unit, fingerprint="", files={})


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
    ],
)
def test_a_round_is_finished_where_all_its_shards_are_there(
    markers: list[Marker], rounds: int, found: int, tmp_path: Path
) -> None:
    stage = StageDir(str(tmp_path), "download", "")
    for marker in markers:
        stage.publish(marker.unit, {}, marker)
    number, of_rounds = finished_rounds(stage, 2)
    assert (number, len(of_rounds)) == (rounds, found)
    assert of_rounds == [marker for marker in markers if marker in of_rounds], "accounting first, then its shards"


def test_rounds_stand_behind_the_plans_shards_each_after_its_accounting() -> None:
    plan = [marked(Unit.raw(partition, shard)) for partition in ("00000", "00001") for shard in range(2)]
    rounds = [one for number in (1, 2) for one in (marked(accounting_unit(number), -3), *shards_of(number, 2))]
    assert in_rounds([*rounds[::-1], *plan[::-1]]) == [*plan, *rounds]


def test_names_of_rounds_sort_as_their_numbers() -> None:
    assert [partition_name(number) for number in (1, 12, 9_999)] == ["r0001", "r0012", "r9999"]
    assert str(accounting_unit(12)) == "retried-0012" and accounting_unit(12) < accounting_unit(100)
    assert Unit.raw(partition_name(1), 0).is_retry
