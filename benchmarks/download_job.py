"""What bench_download measures of ours: `python download_job.py JOB` works all partitions of JOB, a process each, and imports
what a worker of a build would, not what the benchmark itself needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def start_all(job: str, partitions: int) -> None:
    """One process for each partition, as one for each core of a build; raises SystemExit where one fails."""
    children = [subprocess.Popen([sys.executable, __file__, job, str(number)]) for number in range(partitions)]
    if any([child.wait() for child in children]):
        raise SystemExit(1)


def work(told: dict[str, Any], out: Path, number: int) -> None:
    import pyarrow.parquet as pq

    sys.path.insert(0, str(ROOT))
    from wit.download import download_partition
    from wit.fetch.config import FetchConfig
    from wit.images.config import ImageConfig

    part = str(out / f"part-{number:05d}.parquet")
    fetch = FetchConfig(**{k: freeze(v) for k, v in told["fetch"].items()})
    image = ImageConfig(**{k: freeze(v) for k, v in told["image"].items()})
    shards = range(pq.read_metadata(part).num_row_groups)
    download_partition(part, shards, out=told["out"], fingerprint="bench", seed=1, fetch=fetch, image=image)


def freeze(value: Any) -> Any:
    return tuple(freeze(item) for item in value) if isinstance(value, list) else value


def main() -> None:
    job, *number = sys.argv[1:]
    told = json.loads(Path(job).read_bytes())
    if number:
        work(told, Path(job).parent, int(number[0]))
    else:
        start_all(job, told["partitions"])


if __name__ == "__main__":
    main()
