"""What partitions of rounds are called, and which may hold the rows of another again."""

import pytest

from wit.download.rounds import Rounds, accounting_unit, parsed, partition_name, partition_of, round_of
from wit.store.manifests import Unit


@pytest.mark.parametrize(
    "number, begins, name",
    [
        (1, 0, "r0001"),  # as every round up to version 0.4
        (12, 0, "r0012"),
        (9_999, 0, "r9999"),
        (1, 12, "r000100012"),
        (1, 7_999, "r000107999"),
        (2, 123_456, "r0002123456"),  # of a plan with more partitions than five digits name
    ],
)
def test_a_name_says_its_round_and_where_it_begins(number: int, begins: int, name: str) -> None:
    assert partition_name(number, begins) == name and parsed(name) == (number, begins)
    unit = Unit.parse(f"{name}-0003")
    assert unit == Unit.raw(name, 3) and unit.is_retry and unit.kind == ""
    assert (partition_of(unit), round_of(unit)) == (name, number)


@pytest.mark.parametrize(
    "name, number", [("00012-0000", 0), ("retried-0002", 2), ("readme", 0), ("part-r0001-0000", 0), ("notes-read", 0)]
)
def test_what_is_no_shard_of_a_round_is_of_none(name: str, number: int) -> None:
    assert round_of(Unit.parse(name)) == number


def test_names_sort_by_round_then_by_partition() -> None:
    units = [
        *(Unit.raw(name, shard) for name in ("00000", "00012") for shard in (0, 1)),
        *(Unit.raw(partition_name(1, begins), shard) for begins in (0, 12, 700) for shard in (0, 1, 12)),
        *(Unit.raw(partition_name(2, begins), shard) for begins in (0, 3) for shard in (0, 1)),
        *(Unit.raw(partition_name(10), shard) for shard in (0, 1)),
    ]
    assert sorted(units) == units
    assert sorted(f"{unit}.json" for unit in units) == [f"{unit}.json" for unit in units]
    assert str(accounting_unit(12)) == "retried-0012" and accounting_unit(12) < accounting_unit(100)


ROUNDS = Rounds(["00003", "r0001", "r000100010", "r000100020", "r0002", "r0003", "r000300015"])


@pytest.mark.parametrize(
    "name, later",
    [
        ("00000", ["r0001", "r0002", "r0003"]),
        ("00009", ["r0001", "r0002", "r0003"]),
        ("00010", ["r000100010", "r0002", "r0003"]),
        ("00014", ["r000100010", "r0002", "r0003"]),
        ("00015", ["r000100010", "r0002", "r000300015"]),
        ("99999", ["r000100020", "r0002", "r000300015"]),
        ("r0001", ["r0002", "r0003"]),  # of the plan's 0 to 9
        ("r000100010", ["r0002", "r0003", "r000300015"]),  # of 10 to 19
        ("r000100020", ["r0002", "r000300015"]),  # of 20 and all behind
        ("r0002", ["r0003", "r000300015"]),  # of all
        ("r0003", []),
    ],
)
def test_a_later_partition_may_hold_rows_again_where_it_takes_over_some_of_the_same(
    name: str, later: list[str]
) -> None:
    assert ROUNDS.after(name) == later
    assert Rounds([]).after(name) == []
