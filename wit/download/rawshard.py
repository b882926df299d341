"""One raw shard in the making: a tar that grows from the front while later pictures are still on their way, and two tables.

Rows are ordered by the keyed hash of their keys; they are requested in that order, and the tar has it too. So a picture waits
in a spool only for those before it, and a shard is nearly written when its last picture comes.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from wit.download.met import footer, met_by
from wit.fetch.outcome import Outcome
from wit.fetch.spool import Spools
from wit.hashing import keyed_hash
from wit.reasons import Reason
from wit.records import FETCH, PLAN, RAW, RESTRICTED
from wit.shards import padding, tar_end, tar_header
from wit.store import fs
from wit.store.direct import HashedFile
from wit.store.manifests import Unit
from wit.store.parquet import write_parquet

APPEND_BYTES = 2_000_000  # fewer bytes of ready pictures are not worth a turn of the writing thread


def in_order(rows: pa.Table, seed: int) -> pa.Table:
    """Planned rows in the order of their raw shard."""
    keys = rows["key"].to_pylist()
    order = sorted(range(len(keys)), key=lambda row: (keyed_hash(seed, "order", keys[row]), keys[row]))
    return rows.take(pa.array(order, pa.int64()))


class RawShard:
    """The rows of one raw shard with their outcomes. The fetching thread calls `record` and `take_ready`; writing threads call
    `append` and `write`, one call at a time."""

    def __init__(self, unit: Unit, number: int, rows: pa.Table, scratch: str) -> None:
        self.unit, self.number, self.rows = unit, number, rows
        self.keys: list[str] = rows["key"].to_pylist()
        self.outcomes: list[Outcome | None] = [None] * len(rows)
        self.left = len(rows)
        self.counted = False  # in the progress shown
        self._scratch = fs.join(scratch, str(unit))
        self._tars = 0
        self._begin()

    def _begin(self) -> None:
        self._tars += 1
        self.tar_path = f"{self._scratch}-{self._tars}.tar"
        self._tar: HashedFile | None = None
        self.places: list[int | None] = []  # where each picture begins in the tar; None for a row without one
        self._ready = self._taken = self._ready_bytes = 0

    def record(self, row: int, outcome: Outcome) -> None:
        """Keeps the outcome of a row; one outcome less is missing."""
        self.outcomes[row] = outcome
        self.left -= 1

    def done(self) -> list[Outcome]:
        """The outcomes there are, in the order of the rows."""
        return [outcome for outcome in self.outcomes if outcome is not None]

    def take_ready(self) -> list[Outcome]:
        """The next outcomes to `append`, in order, before the first that is missing; none while they are below APPEND_BYTES."""
        while self._ready < len(self.outcomes) and (outcome := self.outcomes[self._ready]) is not None:
            self._ready_bytes += outcome.spool_size
            self._ready += 1
        if self._ready_bytes < APPEND_BYTES and self.left:
            return []
        taken = [outcome for outcome in self.outcomes[self._taken : self._ready] if outcome is not None]
        self._taken, self._ready_bytes = self._ready, 0
        return taken

    def append(self, outcomes: list[Outcome]) -> None:
        """Copies the pictures of the next outcomes into the tar."""
        tar = self._tar = self._tar or HashedFile(self.tar_path)
        for outcome in outcomes:
            if outcome.picture is None or outcome.spool is None:
                self.places.append(None)
                continue
            key, size = self.keys[len(self.places)], outcome.spool_size
            tar.write(tar_header(f"{key}.{outcome.picture.format}", size))
            self.places.append(tar.size)
            tar.copy(outcome.spool.fd, outcome.spool_offset, size)
            tar.write(padding(size))

    def ask_again(self, rows: list[int], spools: Spools) -> None:
        """Forgets the outcomes of these rows. The tar so far becomes a spool for the pictures in it, and a new tar is begun."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None
        waiting = sum(place is not None for place in self.places)
        spool = spools.adopt(self.tar_path, waiting) if waiting else None
        for outcome, place in zip(self.outcomes, self.places, strict=False):
            if outcome is not None and place is not None:
                outcome.spool, outcome.spool_offset = spool, place
        self._begin()
        for row in rows:
            self.outcomes[row] = None
        self.left = len(rows)

    def write(self, parquet: str, fetch: str, restricted: str, *, tells_addresses: bool = False) -> fs.Digest:
        """Ends the tar and writes its tables; the one of blocked pictures only if there are any. Returns the tar's digest. The
        footer of the fetch table tells the addresses that were met, where that is wanted."""
        outcomes = self.done()
        assert self._tar is not None, "`append` comes before"
        self._tar.write(tar_end(self._tar.size))
        write_parquet(raw_table(self.rows, outcomes, self.places), parquet)
        fetched = fetch_table(self.rows["key"], outcomes)
        if tells_addresses:
            fetched = fetched.replace_schema_metadata(footer(met_by(outcomes)))
        write_parquet(fetched, fetch)
        if len(blocked := restricted_table(self.rows, outcomes)):
            write_parquet(blocked, restricted)
            os.chmod(restricted, 0o600)
        return self._tar.close()

    def abandon(self) -> None:
        """Closes the tar, if one is open, as it is: nobody will read it."""
        if self._tar is not None:
            self._tar.abandon()
        self._tar = None


def raw_table(rows: pa.Table, outcomes: list[Outcome], places: list[int | None]) -> pa.Table:
    """The RAW table: the planned rows, and what became of each."""
    pictures = [outcome.picture for outcome in outcomes]
    columns: dict[str, list[Any]] = {
        "reason": [None if o.reason is None else str(o.reason) for o in outcomes],
        "detail": [None if o.reason is Reason.BLOCKED_HASH else o.detail or None for o in outcomes],
        "http_status": [o.http_status or None for o in outcomes],
        "final_url": [o.final_url if o.http_status else None for o in outcomes],
        "tar_offset": places,
        "tar_size": [None if p is None else o.spool_size for o, p in zip(outcomes, pictures, strict=True)],
        "pdq": [p.pdq if p else None for p in pictures],
    }
    for name in RAW.names[len(PLAN) :]:
        if name not in columns:
            columns[name] = [getattr(p, name) if p else None for p in pictures]
    arrays = [pa.array(columns[field.name], field.type) for field in list(RAW)[len(PLAN) :]]
    return pa.table([*rows.columns, *arrays], schema=RAW)


def restricted_table(rows: pa.Table, outcomes: list[Outcome]) -> pa.Table:
    """The RESTRICTED table."""
    hits = [(row, outcome.detail) for row, outcome in enumerate(outcomes) if outcome.reason is Reason.BLOCKED_HASH]
    urls = rows["url"].take(pa.array([row for row, _ in hits], pa.int64()))
    hashes, lists = ([detail.partition(" ")[part] for _, detail in hits] for part in (0, 2))
    return pa.table([pa.array(hashes, pa.string()), pa.array(lists, pa.string()), urls], schema=RESTRICTED)


def fetch_table(keys: pa.ChunkedArray, outcomes: list[Outcome]) -> pa.Table:
    """The FETCH table: attempts, times, bytes, and the network library's error text."""
    columns = {
        "key": keys.combine_chunks(),
        "attempts": [o.attempts for o in outcomes],
        "started": [int(o.started * 1000) for o in outcomes],
        "duration_s": [o.duration_s for o in outcomes],
        "bytes": [o.bytes for o in outcomes],
        "wire_bytes": [o.wire_bytes for o in outcomes],
        "error": [o.error or None for o in outcomes],
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in FETCH], schema=FETCH)
