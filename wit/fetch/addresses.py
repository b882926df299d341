"""Which addresses may be connected to: public ones only, unless an exception is declared. Pure: nothing is sent."""

from __future__ import annotations

import functools
import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA special-purpose registries (RFC 6890 and its updates). Written out, since `is_global` differs between Pythons.
REFUSED_V4 = tuple(
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",  # unspecified, "this network"
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; holds one cloud's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's host agent, at a public address
        "169.254.0.0/16",  # link-local; holds most clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; holds one cloud's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
GLOBAL_V6 = ipaddress.ip_network("2000::/3")  # the only block handed out; the rest is loopback, ULA, link-local, ...
REFUSED_V6 = tuple(
    ipaddress.ip_network(net)
    for net in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
# RFC 6052: how an IPv6-only network reaches IPv4; the inner address counts.
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def networks(allow: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(net, strict=False) for net in allow)


@functools.lru_cache(maxsize=65_536)
def is_refused(address: str, allow: tuple[str, ...] = ()) -> bool:
    """Whether an address may not be connected to: it is not public, or no address at all. Networks in `allow` may be."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    if any(parsed in net for net in networks(allow) if net.version == parsed.version):
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return any(parsed in net for net in REFUSED_V4)
    if parsed in NAT64:
        return is_refused(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)), allow)
    return parsed not in GLOBAL_V6 or any(parsed in net for net in REFUSED_V6)
