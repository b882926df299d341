"""Every figure says its unit and where it comes from; what is not known is said, not invented."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wit.capacity import Wish
from wit.figures import ASSUMED, MEASURED, Line, capacity
from wit.pilot import Pilot, Source, read_pilot


@pytest.fixture
def pilot(earlier: Callable[..., Path]) -> Pilot:
    """26 samples of a table of 33 rows, made by one worker."""
    return read_pilot(str(earlier()))


def figures(pilot: Pilot, target: int = 2_600, **wish: float) -> dict[str, Line]:
    return {line.name: line for line in capacity(pilot, Wish(target=target, **wish)).lines}  # type: ignore[arg-type]


def of_crawl(pilot: Pilot, crawl_files: int | None) -> Pilot:
    return replace(pilot, source=Source("wat", 10, 100, 10**9, "CC-MAIN-2026-43", crawl_files, remote=True))


@pytest.mark.parametrize(
    "source, name, value, unit",
    [
        (Source("table", 1, 33, 1_497), "source_rows", 3_300, "rows"),
        (Source("wat", 10, 100, 10**9), "source_files", 1_000, "files"),
        (Source("warc", 10, 100, 10**9), "source_files", 1_000, "files"),
        (Source("demo", 4, 100, 10**9), "source_files", 400, "files"),
        (Source("files", 2, 100, 10**9), "source_files", 200, "files"),
    ],
)
def test_sources_are_told_in_their_own_unit(source: Source, name: str, value: float, unit: str, pilot: Pilot) -> None:
    found = figures(replace(pilot, source=source), max_per_query=0)
    assert (found[name].value, found[name].unit) == (pytest.approx(value), unit)
    assert ("crawls" in found) == (source.kind == "wat")


@pytest.mark.parametrize(
    "crawl_files, given, share, basis",
    [(None, None, 1_000 / 90_000, ASSUMED), (10, None, 100, MEASURED), (10, 50, 20, ASSUMED)],
)
def test_the_files_of_a_crawl(
    crawl_files: int | None, given: int | None, share: float, basis: str, pilot: Pilot
) -> None:
    wish = {} if given is None else {"crawl_files": given}
    line = figures(of_crawl(pilot, crawl_files), max_per_query=0, **wish)["crawls"]
    assert (line.value, line.basis) == (pytest.approx(share), basis)


def test_without_a_price_there_is_no_cost_and_with_prices_their_sum(pilot: Pilot) -> None:
    assert not [name for name in figures(pilot) if name.startswith("cost")]
    found = figures(pilot, price_core_hour=0.5, price_gb_month=0.02, months=6)
    assert found["cost_core_hours"].value == pytest.approx(found["core_hours"].value * 0.5)
    assert found["cost_store"].value == pytest.approx(found["at_rest_tb"].value * 1_000 * 0.02 * 6)
    assert found["cost"].value == pytest.approx(found["cost_core_hours"].value + found["cost_store"].value)
    assert "cost" not in figures(pilot, price_gb_egress=0.1)
    free = figures(pilot, price_million_requests=0, price_accelerator_hour=2)
    assert free["cost_requests"].value == 0 and free["cost"].value == free["cost_training"].value
    assert free["cost_training"].value == pytest.approx(256 * 12 * 24 * 2 * 2_600 / 400e6)


def test_more_workers_take_fewer_hours_of_the_same_work(pilot: Pilot) -> None:
    few, many = (figures(pilot, 2_600_000, workers=n) for n in (10, 1_000))
    assert few["core_hours"].value == many["core_hours"].value
    shared = [found["hours"].value - found["driver_hours"].value for found in (few, many)]
    assert shared[0] == pytest.approx(100 * shared[1])
    assert (few["nat_ports"].value, many["nat_ports"].value) == (10 * (64 + 256), 1_000 * (64 + 256))


def test_a_small_pilot_says_how_uncertain_it_is(pilot: Pilot) -> None:
    found = capacity(pilot, Wish(target=2_600))
    assert found.error == pytest.approx(26**-0.5)
    assert "kept 26 samples: its yield is uncertain by 20%" in found.notes[0]


def test_what_the_pilot_cannot_tell_is_said(pilot: Pilot) -> None:
    said = "\n".join(capacity(replace(pilot, cores=0, seconds=pilot.seconds | {"plan": 0.0}), Wish(target=10**9)).notes)
    assert "run.json does not say how many cores" in said and "no time of plan" in said
    assert "at most 20,000 samples a query, the pilot's queries give at most" in said and "too low" in said
    assert "--pilot-cores" not in "\n".join(capacity(pilot, Wish(target=2_600)).notes)


def test_a_pilot_whose_engine_took_much_of_its_time_is_named(pilot: Pilot) -> None:
    total = sum(pilot.seconds.values())
    notes = [
        "\n".join(capacity(replace(pilot, engine_s={"plan": share * total}), Wish(target=2_600)).notes)
        for share in (0.05, 0.5)
    ]
    assert "its engine took" not in notes[0] and f"{total:,.0f} s its engine took {total / 2:,.0f}" in notes[1]


def test_an_oversample_that_is_too_small_is_named(pilot: Pilot) -> None:
    thin = replace(pilot.settings.plan, oversample=1.0)
    notes = capacity(replace(pilot, settings=replace(pilot.settings, plan=thin)), Wish(target=2_600)).notes
    assert any("--oversample 1 is below 1 / survival: 1.19" in note for note in notes)
