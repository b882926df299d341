from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from wit.download.preflight import SURVIVAL, TAR_BYTES, asked_of, lines, picture_bytes, preflight
from wit.fetch.config import FetchConfig
from wit.images.config import ImageConfig


def part(**hosts: int) -> pa.Table:
    """A partition: rows by host, whose domain are its last letters."""
    return pa.table({"host": list(hosts), "domain": [name[-1] for name in hosts], "rows": list(hosts.values())})


FETCH = FetchConfig(domain_rate_per_s=4, host_rate_per_s=2, in_flight=10)


def estimate(*parts: pa.Table, fetch: FetchConfig = FETCH, **knobs: float) -> object:
    given = {"image": ImageConfig(), "workers": 2, "copies": 2, "bytes_per_picture": 1_000, **knobs}
    asked = [asked_of(f"{number}", hosts, fetch) for number, hosts in enumerate(parts)]
    return preflight(asked, fetch=fetch, **given)  # type: ignore[arg-type]


def test_the_slowest_domain_is_that_of_its_rate_or_of_its_largest_hosts() -> None:
    found = estimate(part(ax=7_200, bx=7_200, cy=100), part(az=10_800))
    assert (found.rows, found.hosts, found.requests) == (25_300, 4, 25_304)
    assert (found.slowest, found.slowest_rows, found.slowest_hours) == ("z", 10_800, 1.5)  # 10,800 at 2/s of one host
    found = estimate(part(ax=7_200, bx=7_200, cx=7_200))
    assert (found.slowest, found.slowest_hours) == ("x", 1.5)  # 21,600 at 4/s of the domain
    assert found.hours == 1.5


def test_host_limits_count(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text('["ax"]\nrate = 0.5\n["by"]\ndeny = true\n')
    found = estimate(part(ax=7_200, by=90_000), fetch=replace(FETCH, host_limits=str(tmp_path / "limits.toml")))
    assert (found.slowest, found.slowest_hours, found.rows) == ("x", 4.0, 7_200)


def test_without_limits_the_requests_in_flight_are_the_limit() -> None:
    free = FetchConfig(domain_rate_per_s=0, host_rate_per_s=0, in_flight=10, respect_robots=False)
    assert estimate(part(ax=72_000), fetch=free).hours == 0.5  # 2 x 10 at a time, half a second each


def test_the_disk_holds_every_picture_that_arrives_as_often_as_it_is_copied() -> None:
    assert estimate(part(ax=1_000)).bytes_needed == int(1_000 * SURVIVAL * (1_000 + TAR_BYTES) * 2)


@pytest.mark.parametrize(
    "image, expected",
    [
        (ImageConfig(image_size=256, resize_mode="center_crop"), 24_904),
        (ImageConfig(image_size=256), 33_205),
        (ImageConfig(image_size=512), 132_820),
        (ImageConfig(image_size=256, encode_format="png", encode_quality=9), 157_286),
        (ImageConfig(keep_original=True), 236_000),
    ],
)
def test_a_picture_takes_what_its_settings_make_of_it(image: ImageConfig, expected: int) -> None:
    assert round(picture_bytes(image)) == expected


def test_the_words_have_every_number() -> None:
    said = "\n".join(lines(estimate(part(ax=7_200)), 2_000_000_000))
    for number in (
        "7,200 pictures of 1 host, 7,201 requests",
        "x: 7,200 pictures, about 1.0 hours at its rate",
        "time       about 1.0 hours",
        "0.037 GB, 2.000 GB are free",
    ):
        assert number in said


def test_few_are_said_as_a_person_says_them() -> None:
    said = "\n".join(lines(estimate(part(ax=1), fetch=replace(FETCH, respect_robots=False)), None))
    assert "1 picture of 1 host, 1 request\n" in said
    assert "x: 1 picture, a few minutes at its rate" in said and said.endswith("time       a few minutes")


def test_of_domains_that_take_as_long_the_one_of_most_pictures_is_the_slowest_then_the_first_by_name() -> None:
    free = replace(FETCH, domain_rate_per_s=0, host_rate_per_s=0)  # none of them takes any time
    assert estimate(part(ax=5, ay=9), part(az=9), fetch=free).slowest == "y"  # type: ignore[attr-defined]
    assert estimate(part(az=9), part(ay=9, ax=5), fetch=free).slowest == "y"  # type: ignore[attr-defined]
