"""What bench_download measures of Daft, by a Python that has it: `python daft_job.py URLS OUT pixels|stored`.

`pixels` downloads, decodes and resizes, and keeps no more than the URLs of the pictures; `stored` encodes them as JPEG, too, and
writes both. What it writes are tables of parquet in OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

import daft
from daft import col
from daft.functions import decode_image, download, encode_image, resize

ROWS = 64  # decoded at a time, which bounds the memory that their pixels take


def main() -> None:
    urls, out, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    rows = daft.from_pydict({"url": urls.read_text(encoding="utf-8").split()}).into_batches(ROWS)
    body = download(col("url"), max_connections=64, on_error="null")
    pictures = rows.select("url", resize(decode_image(body, on_error="null"), 256, 256).alias("picture"))
    pictures = pictures.where(col("picture").not_null())
    made = encode_image(col("picture"), "JPEG").alias("jpg") if kind == "stored" else daft.lit(1).alias("one")
    pictures.select("url", made).write_parquet(out)


if __name__ == "__main__":
    main()
