"""Knobs of the fetch engine: what cannot be meant is refused before anything is asked."""

from __future__ import annotations

import dataclasses
from typing import Any

import certifi
import pytest

import wit
from wit.errors import InputError
from wit.fetch.config import RANGES, FetchConfig, for_local_web


@pytest.mark.parametrize(
    "knob, value, words",
    [
        *[(name, -1, f"--{name.replace('_', '-')} is -1: give a number from") for name in RANGES],
        *[(name, float("nan"), "is nan: give a number") for name in ("timeout_s", "host_rate_per_s", "retries")],
        *[(name, 0, "is 0: give a number from 1") for name in ("in_flight", "per_host", "per_domain", "per_address")],
        ("host_rate_per_s", 1e-12, "or 0 for no limit"),
        ("robots_max_age_s", 0, "give a number from 60"),
        ("timeout_s", 0, "give a number from 0.1"),
        ("allow_addresses", ("nowhere",), "is no network"),
        ("nameservers", ("nonsense",), "is no address"),
        ("nameservers", ("192.0.2.1:port",), "is no address"),
        ("user_agent", "my bot", "is no product name"),
        ("user_agent", "", "is no product name"),
        ("contact", "a\r\nX: y", "control character"),
        ("contact", "me", "neither a mail address nor a web page"),
        ("contact", "www.example.org", "neither a mail address nor a web page"),
        ("contact", "https://", "neither a mail address nor a web page"),
        ("contact", "a b@example.org", "neither a mail address nor a web page"),
        ("egress_proxy", "nonsense://x", "begins with http://"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_flag(knob: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        FetchConfig(**{knob: value})


def test_every_number_is_bounded() -> None:
    numbers = {f.name for f in dataclasses.fields(FetchConfig) if f.type in ("int", "float")}
    assert numbers == set(RANGES)


@pytest.mark.parametrize("contact", ["", "you@example.org", "https://example.org/crawler", "http://10.0.0.1:8000"])
def test_contacts(contact: str) -> None:
    assert FetchConfig(contact=contact).contact == contact


@pytest.mark.parametrize("server", ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:53"])
def test_name_servers(server: str) -> None:
    assert FetchConfig(nameservers=(server,)).nameservers == (server,)


def test_defaults_and_webs_of_ones_own_are_within_the_bounds() -> None:
    assert for_local_web([("a.example", "127.0.0.1", 80)], FetchConfig(host_rate_per_s=0)).host_rate_per_s == 0


def test_a_build_beyond_this_machine_is_checked() -> None:
    with pytest.raises(InputError, match="--contact is missing"):
        FetchConfig().check()


def test_certificates_to_trust_must_be_there() -> None:
    with pytest.raises(InputError, match="--ca-file /nowhere/at/all.pem is no file"):
        FetchConfig(ca_file="/nowhere/at/all.pem").check_ca_file()
    FetchConfig(ca_file=certifi.where()).check_ca_file()


def test_the_user_agent_bears_the_version() -> None:
    header = FetchConfig(contact="you@example.org").user_agent_header
    assert header == f"wit/{wit.__version__} (+you@example.org)"


@pytest.mark.parametrize(
    "workers, given, at_a_time, rate",
    [
        (1, {}, 16, 50),
        (2, {}, 8, 25),
        (100, {}, 8, 20),  # one domain's own limit
        (4, {"per_domain": 1, "domain_rate_per_s": 1}, 4, 12.5),
        (100, {"per_domain": 1, "domain_rate_per_s": 0.1}, 1, 0.5),
        (9, {"per_domain": 64, "domain_rate_per_s": 0}, 16, 50),  # never more than one address takes
        (9, {"address_rate_per_s": 0}, 8, 0),
    ],
)
def test_workers_that_do_not_see_each_other_share_an_address(
    workers: int, given: dict[str, Any], at_a_time: int, rate: float
) -> None:
    mine = FetchConfig(**given).shared(workers)
    assert (mine.per_address, mine.address_rate_per_s) == (at_a_time, rate)
    assert dataclasses.replace(mine, per_address=16, address_rate_per_s=50) == dataclasses.replace(
        FetchConfig(**given), per_address=16, address_rate_per_s=50
    )
