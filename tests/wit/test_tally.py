from wit.tally import add_counts


def test_counts_add_up_in_order_without_zeros() -> None:
    assert list(add_counts([{"b": 1, "a": 2}, {"a": 1, "c": 0}]).items()) == [("a", 3), ("b", 1)]
