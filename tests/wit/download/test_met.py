"""The server addresses that a raw shard's pictures came from, in the footer of its fetch table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wit.download.met import MOST, Met, footer, highest, met_by, read_footer
from wit.errors import InputError
from wit.fetch.outcome import Outcome


def outcome(address: str, started: float, duration_s: float, attempts: int = 1) -> Outcome:
    return Outcome(0, address=address, started=started, duration_s=duration_s, attempts=attempts)


def test_of_each_address_its_requests_its_time_and_how_many_were_there_at_once() -> None:
    some = [outcome("a", 10, 2), outcome("a", 11, 2, 3), outcome("a", 13, 1), outcome("b", 5, 1), outcome("", 0, 99)]
    assert met_by(some) == [Met("a", 5, 2, 10, 14), Met("b", 1, 1, 5, 6)]


def test_only_the_addresses_with_most_requests_are_told() -> None:
    many = [outcome(f"{number:04d}", 0, 1, attempts=number) for number in range(1, MOST + 50)]
    told = met_by(many)
    assert len(told) == MOST and told[0].requests == MOST + 49 and told[-1].requests == 50


@pytest.mark.parametrize(
    "spans, most",
    [
        ([], 0),
        ([(0, 1, 3.0), (1, 2, 4.0)], 4.0),
        ([(1, 1, 3.0), (1, 1, 4.0)], 7.0),
        ([(0, 2, 3.0), (1, 2, 4.0), (1.5, 3, 1.0)], 8.0),
    ],
)
def test_what_overlaps_is_added_up(spans: list[tuple[float, float, float]], most: float) -> None:
    assert highest(spans) == most


def test_the_footer_comes_back_and_a_table_without_one_tells_none(tmp_path: Path) -> None:
    table, met = pa.table({"key": ["k"]}), [Met("2001:db8::1", 3, 2, 1.5, 2.5)]
    pq.write_table(table.replace_schema_metadata(footer(met)), tmp_path / "with.parquet")
    pq.write_table(table, tmp_path / "without.parquet")
    assert read_footer(str(tmp_path / "with.parquet")) == met
    assert read_footer(str(tmp_path / "without.parquet")) == []


MET = '[{"address": "a", "requests": %s, "at_once": 1, "first_s": 1, "last_s": %s}]'


@pytest.mark.parametrize(
    "footer",
    [
        '[{"address": 3}]',
        "5",
        "null",
        "{}",
        "[" * 100_000,
        MET % (10**400, 2),
        MET % (-1, 2),
        MET % (1, 0),
        MET % (1, "NaN"),
    ],
)
def test_a_footer_of_something_else_is_a_damaged_file(tmp_path: Path, footer: str) -> None:
    path = tmp_path / "one.parquet"
    pq.write_table(pa.table({"key": ["k"]}).replace_schema_metadata({"wit.addresses": footer}), path)
    with pytest.raises(InputError, match=r"one\.parquet"):
        read_footer(str(path))
