"""--host-limits: what a file may say, and whom it concerns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wit.errors import InputError
from wit.fetch.limits import HostLimit, HostLimits, parse, read

FILE = """
["example.org"]
rate = 0.5
concurrency = 1

["cdn.example.org"]
rate = 50

["bücher.example"]
deny = true
"""


def test_the_nearest_name_speaks_and_a_denial_above_counts() -> None:
    limits = parse(FILE, "limits.toml")
    assert limits.of("a.example.org") == limits.of("example.org") == HostLimit(0.5, 1)
    assert limits.of("x.cdn.example.org") == HostLimit(50)
    assert limits.of("notexample.org") == limits.of("org") == HostLimit()
    assert limits.denies("xn--bcher-kva.example") and limits.denies("img.xn--bcher-kva.example")
    assert not limits.denies("example.org") and not HostLimits().denies("example.org")


@pytest.mark.parametrize(
    "text, words",
    [
        ("[example.org]\nrate = 1", "no setting org"),  # without quotes TOML reads a table in a table
        ('["a.example"]\nrate = 0', "rate = 0: give a number from 0.0001 to 1e"),
        ('["a.example"]\nrate = true', "give a number from 0.0001"),
        ('["a.example"]\nrate = inf', "give a number from 0.0001 to 1e"),
        ('["a.example"]\nrate = 5e-324', "give a number from 0.0001"),
        ('["a.example"]\nrate = 1e300', "give a number from 0.0001"),
        ('["a.example"]\nconcurrency = 1.5', "give a whole number above 0"),
        ('["a.example"]\ndeny = "yes"', "give true or false"),
        ('["a.example"]\nrates = 1', "have rate, concurrency, deny"),
        *[
            (f'["{name}"]\ndeny = true', "is no host or domain: write the name alone")
            for name in (
                "not a host",
                "https://example.org",
                "*.example.org",
                ".example.org",
                "a.example:80",
                "a/b",
                "",
            )
        ],
        ('["a.example"]\ndeny = true\n["A.example."]\nrate = 1', "speaks of a.example twice"),
        ('"a.example" = 1', "is no table"),
        ("[", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(text, "limits.toml")


@pytest.mark.parametrize("name", ["example.org", "EXAMPLE.org", "example.org.", "[2001:db8::1]", "192.0.2.1"])
def test_a_name_may_be_written_as_it_is_anywhere(name: str) -> None:
    host = {"[": "[2001:db8::1]", "1": "192.0.2.1"}.get(name[0], "example.org")
    assert parse(f'["{name}"]\ndeny = true', "limits.toml").denies(host)


def test_a_missing_file_is_an_error_and_no_file_is_none(tmp_path: Path) -> None:
    assert read("") == HostLimits()
    with pytest.raises(InputError, match="missing.toml: no such file"):
        read(str(tmp_path / "missing.toml"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "limits.toml")
    with pytest.raises(InputError, match="is no file, and it is read again while the build runs"):
        read(str(tmp_path / "limits.toml"))


@pytest.mark.parametrize("rate", ["0.0001", "1e6", "1", "1_000_000", "1.5"])
def test_the_ends_of_what_a_rate_may_be_are_part_of_it(rate: str) -> None:
    assert parse(f'["a.example"]\nrate = {rate}', "x").of("a.example") == HostLimit(rate=float(rate))


@pytest.mark.parametrize("rate", ["0.00009", "1000001", "nan", '"1"', "-1", "false"])
def test_beyond_them_is_none(rate: str) -> None:
    with pytest.raises(InputError, match=r'x: \["a.example"\] rate = .*: give a number from 0.0001 to 1e\+06'):
        parse(f'["a.example"]\nrate = {rate}', "x")


@pytest.mark.parametrize(
    "value, valid", [("1", True), ("99", True), ("0", False), ("-1", False), ("true", False), ("1.0", False)]
)
def test_requests_at_a_time_are_a_whole_number_above_none(value: str, valid: bool) -> None:
    text = f'["a.example"]\nconcurrency = {value}'
    if valid:
        assert parse(text, "x").of("a.example") == HostLimit(concurrency=int(value))
    else:
        with pytest.raises(InputError, match="give a whole number above 0"):
            parse(text, "x")


def test_a_host_may_be_let_in_and_yet_one_above_it_is_denied() -> None:
    limits = parse('["a.example"]\ndeny = true\n["b.a.example"]\ndeny = false\nrate = 2', "x")
    assert limits.denies("b.a.example") and limits.of("b.a.example") == HostLimit(rate=2)
    assert limits.denies("a.example.") and limits.of("a.example.") == HostLimit(deny=True)
    assert not limits.denies("example") and not limits.denies("ba.example")
    assert not parse('["a.example"]\ndeny = false', "x").denies("a.example")


@pytest.mark.parametrize("character", "/:@?#*\\ ")
def test_a_name_with_more_than_a_name_is_none(character: str) -> None:
    for name in (f"a{character}example.org", f"a.example{character}", f"{character}a.example"):
        quoted = name.replace("\\", "\\\\")
        with pytest.raises(InputError, match="is no host or domain"):
            parse(f'["{quoted}"]\ndeny = true', "x")


@pytest.mark.parametrize("name", ["[::1]:80", "[::1]:", "[::1", "::1", "."])
def test_half_an_address_is_no_name_nor_one_with_a_port(name: str) -> None:
    with pytest.raises(InputError, match="is no host or domain"):
        parse(f'["{name}"]\ndeny = true', "x")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(FILE, encoding="utf-8")
    assert read(str(tmp_path / "limits.toml")) == parse(FILE, "limits.toml")


def test_every_setting_of_an_entry_is_taken_over() -> None:
    text = '["a.example"]\nrate = 2\nconcurrency = 3\ndeny = true\n["b.example"]'
    assert parse(text, "x").entries == {"a.example": HostLimit(2, 3, True), "b.example": HostLimit(None, None, False)}
