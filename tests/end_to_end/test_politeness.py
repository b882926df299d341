"""What a whole build promises to servers, as a server measures it: with many partitions, many workers, kills and restarts."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.build import main

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).parents[1] / "wit/fetch/hostile.py")
assert spec and spec.loader
hostile = sys.modules.setdefault("hostile", importlib.util.module_from_spec(spec))
if not hasattr(hostile, "hostile_web"):
    spec.loader.exec_module(hostile)


def write_build(folder: Path, web: Any, urls: Sequence[str], *, workers: int, **fetch: Any) -> list[str]:
    captions = [f"a red dog number {n}" for n in range(len(urls))]
    pq.write_table(pa.table({"url": list(urls), "caption": captions}), folder / "urls.parquet")
    (folder / "queries.txt").write_text("dog\n")
    hosts = sorted({url.split("/")[2] for url in urls})
    knobs = {"endpoints": web.endpoints(*hosts), "allow_addresses": ["127.0.0.1/32"], "retries": 0} | fetch
    lines = ["[fetch]", *(f"{name} = {json.dumps(value)}" for name, value in knobs.items())]
    lines += ["[plan]", "rows_per_raw_shard = 5", "rows_per_partition = 10", "max_urls_per_domain_partition = 12"]
    (folder / "build.toml").write_text("\n".join(lines))
    return [
        *("--config", str(folder / "build.toml"), "--queries", str(folder / "queries.txt")),
        *("--output", str(folder / "out"), "--source", f"table:{folder / 'urls.parquet'}"),
        *("--contact", "test@example.org", "--seed", "4", "--workers", str(workers)),
    ]


def most_in_a_second(times: Sequence[float]) -> int:
    ordered = sorted(times)
    return max(sum(first <= later < first + 1 for later in ordered[at:]) for at, first in enumerate(ordered))


@pytest.mark.variants(1)
@pytest.mark.parametrize("workers", [4, 1])
def test_a_domain_keeps_its_rate_whatever_the_number_of_partitions_and_workers(tmp_path: Path, workers: int) -> None:
    """One domain in four partitions got 16 requests a second in place of 4."""
    urls = [f"http://h{n % 3}.large.example/{n}.jpg" for n in range(48)]
    urls += [f"http://small{n % 4}.example/{n}.jpg" for n in range(20)]
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(hostile.picture(width=100, height=100, seed=n)) for n in range(48)}
        command = write_build(tmp_path, web, urls, workers=workers, domain_rate_per_s=8, address_rate_per_s=0)
        assert main(command) == 0
        times = [when for host, whens in web.times.items() if "large" in host for when in whens]
        pages = sum(count for (_, path), count in web.counts.items() if path != "/robots.txt")
    plan = json.loads((tmp_path / "out/plan/_MANIFEST.json").read_bytes())
    assert sum(part.get("giant") == 0 for part in plan["parts"]) >= 4  # it really is in several partitions
    assert pages == len(urls)
    assert most_in_a_second(times) <= 8 * 1.1 + 1


def test_what_a_host_asked_for_outlives_a_killed_build(tmp_path: Path) -> None:
    """A crawl delay is kept, and an hour's rest is given, by a build that was killed, started again and asked to retry."""

    def moody(ask: Any) -> bytes:
        return bytes(hostile.ok(b"", status="429 Later", retry_after="3600"))

    urls = [f"http://{host}.example/{n}.jpg" for n in range(6) for host in ("delay", "later", "good")]
    with hostile.hostile_web() as web:
        web.routes |= {f"/{n}.jpg": hostile.ok(hostile.picture(width=100, height=100, seed=n)) for n in range(12)}
        web.routes |= {f"later.example/{n}.jpg": moody for n in range(12)}
        web.routes["delay.example/robots.txt"] = hostile.ok(b"User-agent: *\nCrawl-delay: 3")
        command = write_build(tmp_path, web, urls, workers=2, backoff_s=0.05)
        process = subprocess.Popen([sys.executable, "-m", "pipelines.build", *command], start_new_session=True)
        deadline = time.monotonic() + 100
        known = "later.example"  # written down with the first shard, or some seconds after it was said
        while not any(known in path.read_text() for path in (tmp_path / "out").glob("raw/*.robots.json")):
            time.sleep(0.05)
            assert process.poll() is None and time.monotonic() < deadline
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        asked = len(web.times["later.example"])
        assert main(command) == 0
        assert main([*command, "--retry-failed"]) == 0
        assert main([*command, "--retry-reason", "host_unavailable"]) == 0
        assert len(web.times["later.example"]) == asked
        assert web.counts["delay.example", "/robots.txt"] <= 2
        gaps = [b - a for a, b in itertools.pairwise(sorted(web.times["delay.example"]))]
    assert len(gaps) >= 6
    assert min(gaps) >= 2.9, gaps
