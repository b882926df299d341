from __future__ import annotations

from trainer.tally import by_group, share


def test_every_group_has_a_share_of_its_own() -> None:
    hits = [(0, True), (1, False), (2, True), (2, False), (0, True)]
    found = by_group(hits, ["flags", "others", "others"])
    assert {name: (part.images, part.top1) for name, part in found.items()} == {"flags": (2, 1.0), "others": (3, 1 / 3)}
    low, high = found["others"].top1_interval
    assert low < 1 / 3 < high
    assert share(hits).top1 == 0.6


def test_a_dataset_without_groups_has_none() -> None:
    assert by_group([(0, True)], []) == {}
