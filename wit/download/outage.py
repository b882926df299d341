"""Our own outage is not data: did the web lose a shard's pictures, or was our own network away (design section 5)?"""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque

from wit.download.rawshard import RawShard
from wit.errors import OutageError
from wit.fetch.config import FetchConfig
from wit.fetch.outcome import Outcome
from wit.reasons import Reason

WINDOW_S = 120.0  # domains that answered so lately show that our network is there
PROXY_STATUS = (407, 502, 504)  # behind an egress proxy these may be the proxy's own
TELLING_DOMAINS = 3  # fewer silent domains may just be down


def is_unanswered(outcome: Outcome, *, proxied: bool) -> bool:
    """Whether a row was lost because nobody answered. An HTTP status is an answer, even if it was to another picture of the host;
    behind an egress proxy PROXY_STATUS is none."""
    if outcome.reason is None or outcome.reason is Reason.BUDGET_SPENT:
        return False
    if outcome.reason is Reason.ROBOTS_UNREACHABLE:  # had nobody answered, the reason would be another
        return proxied
    status = outcome.http_status or (int(outcome.detail) if outcome.detail.isdecimal() else 0)
    if status or outcome.detail:
        return proxied and status in PROXY_STATUS
    return outcome.reason.transient or outcome.reason is Reason.TLS_FAILED  # of one host its own fault; of all, whose?


class OutageWatch:
    """Tells, by the silent domains, whether the web lost a shard's pictures or our own network was away."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.shares: list[float] = []  # the share of unanswered rows in each shard that was believed
        self.seen: deque[tuple[float, dict[str, bool]]] = deque()  # (when, {domain: whether it was silent})
        self.given_up: set[str] = set()  # domains that stayed silent however long we waited
        self.suspects_in_a_row = 0
        self.pause_until = 0.0

    def is_unanswered(self, outcome: Outcome) -> bool:
        """`is_unanswered` under this download's settings."""
        return is_unanswered(outcome, proxied=bool(self.config.egress_proxy))

    def is_pausing(self) -> bool:
        """Whether new requests should wait, after a shard that looked like an outage."""
        return time.monotonic() < self.pause_until

    def suspects(self, shard: RawShard) -> bool:
        """Whether a finished shard looks like an outage, and so must not be published. Raises OutageError after several."""
        rows, lost = self._count(shard)
        share = lost.total() / max(rows.total(), 1)
        usual = statistics.median(self.shares) if self.shares else 0.0
        c = self.config
        bound = max(c.outage_floor_share, c.outage_factor * usual)
        silent = {domain: 2 * lost[domain] > count for domain, count in rows.items()}
        around = self._around(silent)
        fine = lost.total() < c.outage_floor_rows or share <= bound or sum(around.values()) <= bound * len(around)
        if fine or self._is_known_dead(around):
            return self._believe(share)
        if not self.is_pausing():  # a shard that ends during a pause tells nothing new
            return self._pause(shard, share, around)
        return True

    def _count(self, shard: RawShard) -> tuple[Counter[str], Counter[str]]:
        """(rows, unanswered rows) by domain."""
        rows: Counter[str] = Counter()
        lost: Counter[str] = Counter()
        for domain, outcome in zip(shard.rows["domain"].to_pylist(), shard.outcomes, strict=True):
            rows[domain] += 1
            lost[domain] += outcome is not None and self.is_unanswered(outcome)
        return rows, lost

    def _mostly(self, shard: RawShard) -> str:
        lost = (outcome for outcome in shard.outcomes if outcome is not None and self.is_unanswered(outcome))
        return str(Counter(outcome.reason for outcome in lost).most_common(1)[0][0])

    def _around(self, silent: dict[str, bool]) -> dict[str, bool]:
        """{domain: whether it was silent} of the shard. Where those are too few to tell anything, as in the tail of a partition,
        the domains of the last WINDOW_S are added."""
        now = time.monotonic()
        while self.seen and self.seen[0][0] < now - WINDOW_S:
            self.seen.popleft()
        self.seen.append((now, silent))
        if len(silent) >= TELLING_DOMAINS:
            return silent
        lately: dict[str, bool] = {}
        for _, domains in self.seen:
            lately |= domains
        return lately

    def _is_known_dead(self, around: dict[str, bool]) -> bool:
        return len(around) < TELLING_DOMAINS and around.keys() <= self.given_up

    def _believe(self, share: float) -> bool:
        self.shares.append(share)
        self.suspects_in_a_row = 0
        return False

    def _pause(self, shard: RawShard, share: float, around: dict[str, bool]) -> bool:
        self.suspects_in_a_row += 1
        if self.suspects_in_a_row >= self.config.outage_shards:
            if len(around) < TELLING_DOMAINS:  # nobody else is left to ask, so they are taken for dead
                self.given_up |= around.keys()
                return self._believe(share)
            raise OutageError(
                f"{share:.0%} of raw shard {shard.unit} failed for want of any answer (mostly {self._mostly(shard)}), "
                f"{self.suspects_in_a_row} times in a row: nothing of it was published. Start the build again when the network "
                "is back; if these hosts are really gone, with --outage-floor-share 1"
            )
        self.pause_until = time.monotonic() + self.config.outage_pause_s * 2 ** (self.suspects_in_a_row - 1)
        return True
