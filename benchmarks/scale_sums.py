"""What report and verify cost at full size: hosts and keys that are made up, merged and compared as the commands do it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from scale_store import Line, measured

from wit.checks import Checks, here
from wit.keycheck import Runs, sum_of, write_hashes
from wit.report.hosts import HOSTS, ROWS
from wit.report.whole import write_hosts
from wit.store import streams


def report(scale: float) -> Iterator[Line]:
    """The table of hosts of 15 million: what the driver merges of 500 pieces, each with 33,000 hosts of three outcomes."""
    generator, hosts = np.random.default_rng(1), round(15e6 * scale)
    with tempfile.TemporaryDirectory(prefix="wit-bench-") as folder:
        pieces = max(2, round(500 * max(scale, 0.1)))
        paths = [f"{folder}/{number}.arrow" for number in range(pieces)]
        for path in paths:
            numbers = np.sort(generator.choice(hosts, 1 + hosts * 11 // (10 * pieces), replace=False))
            names = [f"www.h{number:09d}.example" for number in numbers.tolist() for _ in range(3)]
            outcomes = pa.array(["downloaded", "http_not_found", "timeout"] * len(numbers))
            rows = pa.table([names, outcomes, pa.array(np.full(3 * len(numbers), 7))], schema=HOSTS)
            streams.write_stream(rows, path, rows=ROWS)
        yield measured("report", f"{hosts:,} hosts", lambda: write_hosts(f"{folder}/out", paths))


def verify(scale: float) -> Iterator[Line]:
    """All keys of 400 million samples and of their keep list, compared range by range as one process does it."""
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="wit-bench-") as folder:
        keys = round(400e6 * scale)
        every = generator.integers(0, 2**64, keys, np.uint64)
        runs = {
            kind: tuple(
                write_hashes(some, f"{folder}/{kind}-{number}.keys", whole=True)
                for number, some in enumerate(np.array_split(every, max(1, round(files * scale))))
            )
            for kind, files in (("published", 1_250), ("kept", 2_500))
        }
        del every
        Runs(runs["published"], runs["kept"]).write(folder)
        checks = [replace(check, folder=folder) for check in Checks("", folder, "metadata").of_keys()]

        def work() -> None:
            compared = sum_of(one.compared for one in here(checks) if one.compared is not None)
            assert not compared.again and not compared.differ

        yield measured("verify", f"{keys:,} keys", work)
