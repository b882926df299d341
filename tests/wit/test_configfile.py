"""A configuration file takes what flags take, and says what is wrong with anything else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit.config import BuildConfig
from wit.configfile import counted, from_toml
from wit.errors import InputError
from wit.plan.config import PlanConfig


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """The text of a file -> the configuration."""

    def config(text: str, default: BuildConfig | None = None) -> BuildConfig:
        path = tmp_path / "build.toml"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return from_toml(str(path), default or BuildConfig())

    return config


@pytest.mark.parametrize(
    "name, value, number",
    [
        ("target", "400M", 400_000_000),
        ("target", "400m", 400_000_000),
        ("limit", "1.5k", 1_500),
        ("max_per_query", "20K", 20_000),
        ("max-per-query", "2G", 2_000_000_000),
        ("target", "0.25B", 250_000_000),
        ("target", "1b", 1_000_000_000),
        ("target", "0.3k", 300),
        ("target", "400", None),
        ("target", "400M ", None),
        ("target", "M", None),
        ("target", "-1k", None),
        ("target", "1.k", None),
        ("target", "1T", None),
        ("seed", "400M", None),
        ("output", "20k", None),
    ],
)
def test_a_count_may_be_written_short(name: str, value: str, number: int | None) -> None:
    assert counted(name, value) == number


@given(st.integers(0, 999_999), st.sampled_from([("k", 3), ("M", 6), ("g", 9), ("B", 9)]))
def test_a_short_count_is_exact(number: int, suffix: tuple[str, int]) -> None:
    assert counted("target", f"{number}{suffix[0]}") == number * 10 ** suffix[1]


def test_what_a_file_does_not_say_is_as_it_was(read: Any) -> None:
    default = BuildConfig(seed=9, output="here", plan=PlanConfig(oversample=3.0, target=5))
    assert read("", default) == default
    found = read("seed = 4\n[plan]\ntarget = 6", default)
    assert found == dataclasses.replace(default, seed=4, plan=PlanConfig(oversample=3.0, target=6))


@pytest.mark.parametrize(
    "text", ["max-per-query = 7", "max_per_query = 7", "[plan]\nmax-per-query = 7", "plan = {max_per_query = 7}"]
)
def test_a_setting_stands_at_the_top_or_in_its_section_with_either_stroke(read: Any, text: str) -> None:
    assert read(text) == BuildConfig(plan=PlanConfig(max_per_query=7))


def test_settings_of_one_section_may_stand_in_both_places(read: Any) -> None:
    assert read("target = 7\n[plan]\noversample = 3").plan == PlanConfig(target=7, oversample=3.0)


def test_values_have_the_type_of_their_knob(read: Any) -> None:
    found = read(
        'source = ["wat:a"]\nlimit = "2k"\nresize-mode = "border"\nretry-failed = true\nurl-col = "u"\nrebuild-from = "plan"\n'
        'host-rate-per-s = 3\nmin-clip-score = 1\nendpoints = [["h", "127.0.0.1", 80]]\nnameservers = []\nencode-quality = 9'
    )
    assert (found.source, found.sources.limit, found.image.resize_mode, found.retry_failed) == (
        ("wat:a",),
        2_000,
        "border",
        True,
    )
    assert (found.sources.url_col, found.rebuild_from, found.image.encode_quality) == ("u", "plan", 9)
    assert isinstance(found.fetch.host_rate_per_s, float) and isinstance(found.select.min_clip_score, float)
    assert found.fetch.endpoints == (("h", "127.0.0.1", 80),) and found.fetch.nameservers == ()
    assert isinstance(found.image.encode_quality, int)


@pytest.mark.parametrize(
    "text, said",
    [
        ("seed = [1]", "seed is [1]: give a whole number"),
        ("output = 3", "output is 3: give a text in quotes"),
        ('output = ["a"]', "output is ['a']: give a text in quotes"),
        ("dry-run = 1", "dry-run is 1: give true or false"),
        ('dry-run = "yes"', "dry-run is 'yes': give true or false"),
        ("[plan]\noversample = true", "oversample is True: give a number"),
        ('[plan]\noversample = "2"', "oversample is '2': give a number"),
        ("limit = 1.0", "limit is 1.0: give a whole number"),
        ('limit = "2T"', "limit is '2T': give a whole number"),
        ("url-col = 1", "url-col is 1: give a text in quotes"),
        ("resize-mode = 1", "resize-mode is 1: give one of no, border, keep_ratio, keep_ratio_largest, center_crop"),
        (
            "rebuild-from = 1",
            "rebuild-from is 1: give one of candidates, plan, download, score, select, publish, report",
        ),
        ('source = "wat:a"', "source is 'wat:a': give a list, each a text in quotes"),
        ('source = ["a", 1]', "source is ['a', 1]: give a list, each a text in quotes"),
        (
            'endpoints = [["h", "127.0.0.1", "80"]]',
            "endpoints is [['h', '127.0.0.1', '80']]: give a list, each a list of a text in quotes, a text in quotes, "
            "a whole number",
        ),
        (
            'endpoints = [["h", "127.0.0.1", 80, 81]]',
            "endpoints is [['h', '127.0.0.1', 80, 81]]: give a list, each a list of",
        ),
        ('endpoints = [["h"]]', "endpoints is [['h']]: give a list, each a list of"),
        (
            "endpoints = [1]",
            "endpoints is [1]: give a list, each a list of a text in quotes, a text in quotes, a whole number",
        ),
        ("[plan]\nplan = 1", "no such setting: plan; have cap, "),
        ("plan = 1", "plan is a table: write [plan]"),
        ("[seed]\nx = 1", "seed is no table"),
        ("[plan.target]\nx = 1", "target is no table"),
        ("[select]\nBOUNDS = 1", "no such setting: BOUNDS; have max_aspect_ratio, "),
        ("[seeds]\nx = 1", "no such setting: seeds; did you mean seed?"),
        ("target = 1\n[plan]\ntarget = 2", "target stands there twice"),
        ("max-per-query = 1\nmax_per_query = 2", "max_per_query stands there twice"),
        ("seed = 1\nlimit = 0", "--limit is 0: give a number from 1 to 1000000000000"),
        ("[plan]\noversample = 0.5", "--oversample is 0.5: give a number from 1 to 1000"),
        (
            "min-side-px = 3",
            "min-side-px is gone, since nothing hung on it: leave it out; sets that were built with it go on",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_file_in_front(read: Any, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(text)
    assert str(refused.value).startswith(f"{tmp_path}/build.toml: {said}")


@pytest.mark.parametrize("text", ["=", "a = 1\na = 2", "a = \udcff"])
def test_what_is_no_toml_is_no_configuration(read: Any, text: str) -> None:
    with pytest.raises(InputError, match="build.toml is not TOML: "):
        read(text)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such configuration file: .*none.toml"):
        from_toml(str(tmp_path / "none.toml"), BuildConfig())


SECTIONS = {
    name: config
    for name, config in ((field.name, getattr(BuildConfig(), field.name)) for field in dataclasses.fields(BuildConfig))
    if dataclasses.is_dataclass(config)
}
PLAIN = [
    (section, field.name, getattr(config, field.name))
    for section, config in SECTIONS.items()
    for field in dataclasses.fields(config)
    if isinstance(getattr(config, field.name), bool | int | float)
]


@pytest.mark.parametrize("section, name, value", PLAIN, ids=[name for _, name, _ in PLAIN])
def test_every_plain_knob_may_stand_in_a_file_with_its_default(
    read: Any, section: str, name: str, value: object
) -> None:
    written = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    assert read(f"{name} = {written}") == BuildConfig() == read(f"[{section}]\n{name} = {written}")
