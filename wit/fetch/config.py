"""The knobs of the fetch engine: who we say we are, what we refuse, and how gently we ask."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import wit
from wit.errors import InputError
from wit.knobs import MANY, Range, check_ranges

RATE = Range(1e-4, 1e6, zero="no limit")  # requests a second: at least one in three hours
PATIENCE = Range(0.1, 3_600)
PAUSE = Range(0, 86_400)
RANGES = {
    **dict.fromkeys(("in_flight", "per_host", "per_domain", "per_address", "breaker_failures"), Range(1, 4_096)),
    **dict.fromkeys(("host_rate_per_s", "domain_rate_per_s", "address_rate_per_s"), RATE),
    **dict.fromkeys(("timeout_s", "connect_timeout_s"), PATIENCE),
    "fetch_workers": Range(0, 100_000),
    **dict.fromkeys(("max_redirects", "retries"), Range(0, 20)),  # RFC 9110 section 15.4 speaks of five redirects
    "max_body_bytes": Range(1_000, 1_000_000_000),
    "max_header_bytes": Range(1_000, 10_000_000),
    **dict.fromkeys(("backoff_s", "short_retry_after_s", "breaker_pause_s", "outage_pause_s"), PAUSE),
    "robots_max_age_s": Range(60, 86_400 * 30),
    "max_bytes": Range(0, 1_000 * MANY),
    "max_requests": Range(0, MANY),
    "max_seconds": Range(0, 1e9),
    "outage_floor_rows": Range(0, 1e9),
    "outage_floor_share": Range(0, 1),
    "outage_factor": Range(1, 1e6),
    "outage_shards": Range(1, 1_000),
}
PRODUCT = re.compile(r"[A-Za-z0-9_-]+")  # what robots.txt can address (RFC 9309 section 2.2.1, and digits)
CONTACT = re.compile(r"[^@\s]+@[^@\s]+|https?://[^/\s]\S*", re.IGNORECASE)
PROXIES = ("http://", "https://", "socks4://", "socks4a://", "socks5://", "socks5h://")


def is_nameserver(text: str) -> bool:
    """Whether the text is ADDRESS or ADDRESS:PORT, with an IPv6 address in brackets if a port follows."""
    address, colon, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "")
    try:
        ipaddress.ip_address((address if colon else text).strip("[]"))
    except ValueError:
        return False
    return not colon or (port.isdecimal() and 0 < int(port) < 65_536)


@dataclass(frozen=True)
class FetchConfig:
    """How pictures are fetched. Defaults are for the open web."""

    user_agent: str = "wit"
    """product token in the User-Agent, and the name that robots.txt and X-Robots-Tag address"""
    contact: str = ""
    """web page or mail address for complaints, part of the User-Agent; a build beyond this machine must set it"""
    timeout_s: float = 20
    """seconds for one attempt as a whole, redirects included"""
    connect_timeout_s: float = 6
    """seconds for the TCP and TLS handshakes of one hop"""
    max_redirects: int = 5
    """redirects that one attempt follows"""
    max_body_bytes: int = 20_000_000
    """larger replies are dropped, measured after decompression of the transfer"""
    max_header_bytes: int = 65_536
    """replies with more bytes of headers are dropped"""
    in_flight: int = 64
    """transfers at a time in one fetch process; those that wait for a silent host do not count"""
    retries: int = 2
    """further attempts after a transient failure, with back-off"""
    backoff_s: float = 0.5
    """seconds before the first further attempt; doubled before each next one, with jitter"""
    short_retry_after_s: float = 5
    """seconds: a Retry-After up to this is waited for, a longer one leaves the picture to --retry-failed"""
    per_host: int = 4
    """transfers at a time to one host, over all workers of this machine"""
    per_domain: int = 8
    """transfers at a time to one registrable domain, likewise"""
    per_address: int = 16
    """transfers at a time to one connected address, likewise"""
    host_rate_per_s: float = 10
    """requests a second to one host, over all workers of this machine (0 = no limit)"""
    domain_rate_per_s: float = 20
    """requests a second to one registrable domain, likewise (0 = no limit)"""
    address_rate_per_s: float = 50
    """requests a second to one connected address, likewise (0 = no limit)"""
    fetch_workers: int = 0
    """host partitions that are fetched at a time over all workers of an engine, which must be given there: each worker may give
    an address its share of the two limits above, or one domain's own where that is more (0 = on this machine, by --workers)"""
    host_limits: str = ""
    """TOML file of rates, concurrency and `deny` by host or domain (docs/build.md); read again while the build runs"""
    breaker_failures: int = 5
    """consecutive failures after which a host is left alone for a while; its pictures are host_unavailable"""
    breaker_pause_s: float = 60
    """seconds that such a host is left alone"""
    respect_robots: bool = True
    """honour robots.txt"""
    respect_opt_out: bool = True
    """honour X-Robots-Tag (noai, noimageai, noindex, noimageindex, none, noml) and tdm-reservation"""
    robots_max_age_s: float = 86_400
    """seconds after which robots.txt is fetched again (RFC 9309 section 2.4: a day)"""
    allow_addresses: tuple[str, ...] = ()
    """networks (CIDR) that may be connected to although they are not public"""
    endpoints: tuple[tuple[str, str, int], ...] = ()
    """(host, address, port): where a host's connections go instead of its DNS address; for webs of one's own"""
    nameservers: tuple[str, ...] = ()
    """resolvers to ask instead of the system's, as ADDRESS or ADDRESS:PORT"""
    egress_proxy: str = ""
    """proxy URL for all requests; the check of addresses is then the proxy's duty (proxy variables are ignored)"""
    ca_file: str = ""
    """certificates to trust instead of the bundled ones (PEM)"""
    max_bytes: int = 0
    """bytes of bodies after which one partition asks for nothing more; the rest is budget_spent (0 = no limit)"""
    max_requests: int = 0
    """requests after which one partition asks for nothing more, likewise (0 = no limit)"""
    max_seconds: float = 0
    """seconds after which one partition asks for nothing more, likewise (0 = no limit)"""
    outage_floor_rows: int = 50
    """a shard with fewer unanswered rows than this is never taken for an outage of ours"""
    outage_floor_share: float = 0.5
    """a shard whose share of unanswered rows is smaller than this is never taken for one (1 = none ever is)"""
    outage_factor: float = 3
    """a shard whose share is below this many times the running median of its partition is never taken for one"""
    outage_shards: int = 3
    """shards in a row that look like an outage, after which the build stops"""
    outage_pause_s: float = 30
    """seconds of pause after a shard that looks like an outage; doubled with each in a row"""

    def __post_init__(self) -> None:
        for network in self.allow_addresses:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise InputError(f"--allow-addresses {network} is no network: write it as 127.0.0.0/8") from error
        check_ranges(self, RANGES)
        for server in self.nameservers:
            if not is_nameserver(server):
                raise InputError(f"--nameservers {server} is no address: write it as 192.0.2.1 or 192.0.2.1:53")
        if not PRODUCT.fullmatch(self.user_agent):
            raise InputError(f"--user-agent {self.user_agent!r} is no product name: letters, digits, - and _ alone")
        if not self.contact.isprintable():
            raise InputError("--contact holds a line break or another control character: write it on one line")
        if self.contact and not CONTACT.fullmatch(self.contact):
            raise InputError(
                f"--contact {self.contact} is neither a mail address nor a web page: write it as you@example.org or "
                "https://example.org/crawler"
            )
        if self.egress_proxy and not self.egress_proxy.startswith(PROXIES):
            raise InputError(
                f"--egress-proxy {self.egress_proxy} is none that is known: it begins with {', '.join(PROXIES)}"
            )

    def heeded(self) -> tuple[str, ...]:
        """The opt-outs of sites that are honoured."""
        robots = ("robots.txt",) if self.respect_robots else ()
        return robots + (("X-Robots-Tag", "TDM reservations") if self.respect_opt_out else ())

    def check(self) -> None:
        """Raises InputError unless strangers can see whom to complain to; builds beyond one's own servers call it."""
        if not self.contact:
            raise InputError(
                "--contact is missing: servers must see whom to complain to, for instance "
                "--contact https://example.org/crawler"
            )

    def check_shared(self, runner: str) -> None:
        """Raises InputError where workers of that engine would fetch without a bound on their number."""
        if not self.fetch_workers:
            raise InputError(
                f"on {runner} --fetch-workers is missing: workers there do not see each other, so say how many host partitions "
                "are fetched at a time; the limits of an address are divided by it"
            )

    def shared(self, workers: int) -> FetchConfig:
        """What one of so many workers keeps to that do not see each other (design section 8): a host and a domain have one
        worker and hold exactly; an address may meet all of them."""
        domain_rate = self.domain_rate_per_s or math.inf
        return replace(
            self,
            per_address=min(self.per_address, max(self.per_domain, self.per_address // workers)),
            address_rate_per_s=min(self.address_rate_per_s, max(domain_rate, self.address_rate_per_s / workers)),
        )

    def check_ca_file(self) -> None:
        """Raises InputError where --ca-file holds no certificates."""
        if not self.ca_file:
            return
        if not os.path.isfile(self.ca_file):
            raise InputError(f"--ca-file {self.ca_file} is no file: give the PEM file of the certificates to trust")
        import ssl  # not above: it costs each fetch process 5 ms, and nearly nobody gives a file

        try:
            ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            why = error.strerror or f"{error}"
            raise InputError(
                f"--ca-file {self.ca_file} holds no certificates that can be read ({why}): give a PEM file"
            ) from error

    @property
    def user_agent_header(self) -> str:
        about = f" (+{self.contact})" if self.contact else ""
        return f"{self.user_agent}/{wit.__version__}{about}"


def for_local_web(endpoints: Iterable[tuple[str, str, int]], base: FetchConfig | None = None) -> FetchConfig:
    """The configuration for a web that we serve ourselves: its addresses allowed, no rate limits, short patience."""
    ends = tuple(sorted(endpoints))
    nets = tuple(sorted({address for _, address, _ in ends}))
    return replace(
        base or FetchConfig(),
        endpoints=ends,
        allow_addresses=nets,
        host_rate_per_s=0,
        domain_rate_per_s=0,
        address_rate_per_s=0,
        per_host=16,
        per_domain=32,
        per_address=64,
        timeout_s=4,
        connect_timeout_s=2,
    )
