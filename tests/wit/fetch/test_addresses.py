"""Which addresses are refused: the pure decision, with nothing sent."""

from __future__ import annotations

import pytest

from wit.fetch.addresses import is_refused


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",  # metadata
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",  # host agent
        "169.254.169.254",  # metadata
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",  # metadata
        "192.0.2.7",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.9",
        "203.0.113.5",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",  # IPv4-mapped, whatever is inside
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # NAT64 of loopback
        "64:ff9b::a9fe:a9fe",  # NAT64 of metadata
        "64:ff9b:1::1",
        "100::1",
        "2001::1",  # Teredo
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::",  # 6to4
        "2002:808:808::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",  # metadata
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "example.org",
        "",
        "1.2.3",
        "0x7f000001",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert is_refused(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "169.253.0.1",
        "223.255.255.255",
    ]
    + ["2606:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808"],
)
def test_public_addresses_are_taken(address: str) -> None:
    assert not is_refused(address)


def test_only_the_declared_exceptions_are_opened() -> None:
    allow = ("127.0.0.1", "fd12::/16")
    assert not is_refused("127.0.0.1", allow)
    assert not is_refused("fd12:3::4", allow)
    assert is_refused("127.0.0.2", allow)
    assert is_refused("fd13::1", allow)
