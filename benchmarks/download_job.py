"""What bench_download measures of ours: `python download_job.py JOB` works all partitions of JOB, a thread for each as in a build
on one machine, and imports what a build would, not what the benchmark itself needs."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def work(told: dict[str, Any], out: Path, number: int) -> None:
    import pyarrow.parquet as pq

    from wit.download.partition import PartShards, download_partition
    from wit.fetch.config import FetchConfig
    from wit.images.config import ImageConfig

    part = str(out / f"part-{number:05d}.parquet")
    fetch = FetchConfig(**{k: freeze(v) for k, v in told["fetch"].items()})
    image = ImageConfig(**{k: freeze(v) for k, v in told["image"].items()})
    piece = PartShards(f"{number:05d}", part, tuple(range(pq.read_metadata(part).num_row_groups)))
    download_partition(piece, out=told["out"], fingerprint="bench", seed=1, fetch=fetch, image=image)


def freeze(value: Any) -> Any:
    return tuple(freeze(item) for item in value) if isinstance(value, list) else value


def main() -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `pipelines` does
    job = Path(sys.argv[1])
    told = json.loads(job.read_bytes())
    sys.path.insert(0, str(ROOT))
    with ThreadPoolExecutor(told["partitions"]) as pool:
        for done in [pool.submit(work, told, job.parent, number) for number in range(told["partitions"])]:
            done.result()


if __name__ == "__main__":
    main()
