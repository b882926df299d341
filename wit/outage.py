"""Our own outage is not data: telling a shard that the web lost from one that our own network lost (design section 5)."""

from __future__ import annotations

import statistics
import time
from collections import Counter

from wit.fetch.config import FetchConfig
from wit.fetch.errors import OutageError
from wit.fetch.outcome import Outcome
from wit.rawshard import RawShard
from wit.reasons import Reason


def is_transient(outcome: Outcome) -> bool:
    return outcome.reason is not None and outcome.reason.transient and outcome.reason is not Reason.BUDGET_SPENT


class OutageWatch:
    """Tells a shard that the web lost from one that our own network lost (design section 5)."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self.shares: list[float] = []  # of transient failures, in shards that were believed
        self.suspects_in_a_row = 0
        self.pause_until = 0.0

    def is_pausing(self) -> bool:
        return time.monotonic() < self.pause_until

    def suspects(self, shard: RawShard) -> bool:
        """Whether a finished shard looks like an outage: then it must not be published. Raises OutageError after several."""
        share = transient_share(shard)
        usual = statistics.median(self.shares) if self.shares else 0.0
        failed = sum(is_transient(outcome) for outcome in shard.done())
        c = self.config
        if failed < c.outage_floor_rows or share <= max(c.outage_floor_share, c.outage_factor * usual):
            self.shares.append(share)
            self.suspects_in_a_row = 0
            return False
        if not self.is_pausing():  # shards that end during a pause tell nothing new
            self._pause(shard, share)
        return True

    def _pause(self, shard: RawShard, share: float) -> None:
        self.suspects_in_a_row += 1
        if self.suspects_in_a_row >= self.config.outage_shards:
            raise OutageError(
                f"{share:.0%} of raw shard {shard.unit} failed for want of a network, {self.suspects_in_a_row} times in a "
                "row: nothing of it was published. Start the build again when the network is back; if these hosts are "
                "really gone, with --outage-floor-share 1"
            )
        self.pause_until = time.monotonic() + self.config.outage_pause_s * 2 ** (self.suspects_in_a_row - 1)


def transient_share(shard: RawShard) -> float:
    """The smaller of the share of rows and the share of domains, since one large host that is down is no outage of ours."""
    rows: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for domain, outcome in zip(shard.rows["domain"].to_pylist(), shard.outcomes, strict=True):
        rows[domain] += 1
        failed[domain] += outcome is not None and is_transient(outcome)
    by_domain = sum(failed[domain] / count for domain, count in rows.items()) / max(len(rows), 1)
    return min(failed.total() / max(rows.total(), 1), by_domain)
