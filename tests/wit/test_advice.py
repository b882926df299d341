import dataclasses

import pytest

from wit.advice import SETTINGS, nothing_kept, refused_before
from wit.config import BuildConfig
from wit.records import Reason
from wit.tally import Tally


def settings() -> set[str]:
    """The names of all settings of a build."""
    config = BuildConfig()
    sections = [getattr(config, field.name) for field in dataclasses.fields(config)]
    nested = {f.name for one in sections if dataclasses.is_dataclass(one) for f in dataclasses.fields(one)}
    return nested | {field.name for field in dataclasses.fields(config)}


def test_every_reason_has_a_setting_that_decides_over_it_and_every_setting_is_one() -> None:
    assert set(SETTINGS) == set(Reason)
    assert {name for names in SETTINGS.values() for name in names} <= settings()


def total(pairs: int, **dropped: int) -> Tally:
    return Tally(into=pairs, out=pairs - sum(dropped.values()), dropped=dropped)


@pytest.mark.parametrize(
    "totals, said",
    [
        ({"candidates": total(0)}, "the sources hold no pairs"),
        (
            {"candidates": total(9, no_query=7, language=2), "plan": total(0), "publish": total(0)},
            "nothing was kept: 7 of 9 pairs left candidates as no_query, on which --queries decides",
        ),
        (
            {"candidates": total(9, language=6), "plan": total(3), "download": total(3, address_refused=3)},
            "nothing was kept: 3 of 3 pairs left download as address_refused, on which --allow-addresses decides; "
            "before that 6 of 9 pairs left candidates as language, on which --languages decides",
        ),
        ({"candidates": total(4, caption_missing=4)}, "as caption_missing, on which --caption-col decides"),
        ({"candidates": total(4), "download": total(4, robots_disallowed=4)}, "on which --respect-robots decides"),
    ],
)
def test_a_set_without_samples_says_what_took_most_and_which_flag_decides(totals: dict, said: str) -> None:
    assert said in nothing_kept(totals)


def test_what_was_refused_under_other_settings_is_said_with_what_fetches_it() -> None:
    was = {"allow_addresses": [], "respect_robots": True, "max_body_bytes": 10, "per_host": 4}
    is_ = {"allow_addresses": ["10.0.0.0/8"], "respect_robots": False, "max_body_bytes": 20, "per_host": 8}
    assert refused_before(was, is_, {"address_refused": 12, "robots_disallowed": 2, "robots_unreachable": 1}) == [
        "--allow-addresses was empty and is 10.0.0.0/8, 12 rows were refused for it: --retry-reason address_refused fetches "
        "those",
        "--respect-robots was True and is False, 3 rows were refused for it: --retry-reason "
        "robots_disallowed,robots_unreachable fetches those",
    ]
    assert refused_before(was, was, {"address_refused": 12}) == []
