"""The whole build at growing sizes: a list of URLs in a table, pictures made in memory by a server on loopback, nothing else.

Of each size: wall and CPU seconds of the build's processes (the server is another), their memory, and kB a row on
the disk at its fullest.
Every picture is another one; 9 % of URLs are 404, and about half of all pairs have a query in their text.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_plan import bytes_below
from measured_run import measured
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from wit.store import parquet  # noqa: E402

SIZES = (10_000, 100_000, 1_000_000)
HOSTS, QUERIES, MISSING = 200, 1_000, 0.09
PATCHES, SIDE = 12, 96  # a picture is a grid of random patches


def picture(number: int) -> bytes:
    """The JPEG of a URL."""
    patches = np.random.default_rng(number).integers(0, 256, (PATCHES, PATCHES, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(out, "JPEG", quality=80)
    return out.getvalue()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """GETs of one connection, one behind the other."""
    while line := await reader.readline():
        while (await reader.readline()).strip():
            pass
        name = line.split()[1].rpartition(b"/")[2].removesuffix(b".jpg")
        there = name.isdigit() and int(name) % 100 >= 100 * MISSING
        body = picture(int(name)) if there else b""
        status = b"200 OK" if there else b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        writer.write(head + body)
        await writer.drain()
    writer.close()


async def serve() -> None:
    """Until the benchmark ends it; prints its port first."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def inputs(folder: Path, rows: int, port: int) -> list[str]:
    """Puts list, queries and settings into the folder; returns the arguments of the build."""
    words = [f"thing{number:04d}" for number in range(2 * QUERIES)]
    (folder / "queries.txt").write_text("\n".join(words[:QUERIES]) + "\n")
    picked = np.minimum(np.random.default_rng(rows).zipf(1.2, rows) - 1, len(words) - 1)
    texts = [
        f"a photo of {words[2 * QUERIES - 1 - w if n % 2 else w]} in place {n}" for n, w in enumerate(picked.tolist())
    ]
    urls = [f"http://h{number % HOSTS}.example/{number}.jpg" for number in range(rows)]
    pq.write_table(pa.table({"url": urls, "caption": texts}), folder / "list.parquet")
    ends = ", ".join(f'["h{number}.example", "127.0.0.1", {port}]' for number in range(HOSTS))
    rates = [f"{name} = 0" for name in ("host_rate_per_s", "domain_rate_per_s", "address_rate_per_s")]
    lines = [
        f"[fetch]\nendpoints = [{ends}]",
        'allow_addresses = ["127.0.0.1/32"]',
        "retries = 0",
        "per_address = 256",
        *rates,
    ]
    (folder / "build.toml").write_text("\n".join(lines) + "\n")
    return (
        f"--config {folder}/build.toml --queries {folder}/queries.txt --source table:{folder}/list.parquet --output {folder}/set "
        "--contact bench@example.org --seed 7 --workers 2 --stages candidates,plan,download,select,publish,report"
    ).split()


def build(sizes: tuple[int, ...] = SIZES) -> None:
    """A line a size; the last column is the CPU of a candidate, as a multiple of that of the size before."""
    heads = f"{'wall s':>9}{'CPU s':>9}{'ms a row':>10}{'peak MB':>9}{'disk kB':>9}"
    print(f"{'candidates':>12}{'samples':>10}{heads}{'growth':>8}")
    before = 0.0
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder, stop, disk = Path(name), threading.Event(), [0]
            server = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            try:
                given = inputs(folder, rows, int(server.stdout.readline()))

                def watch(at: Path = folder, most: list[int] = disk, over: threading.Event = stop) -> None:
                    while not over.wait(1):
                        most[0] = max(most[0], bytes_below(f"{at}/set"))

                watcher = threading.Thread(target=watch)
                watcher.start()
                try:
                    wall, cpu, peak, _ = measured(
                        [sys.executable, "-m", "pipelines.build", *given], {"PYTHONPATH": str(ROOT)}
                    )
                finally:
                    stop.set()
                    watcher.join()
            finally:
                server.terminate()
                server.wait()
                server.stdout.close()
            shards = sorted((folder / "set/shards").glob("*.parquet"))
            samples = sum(len(parquet.read_table(str(shard), ["key"])) for shard in shards)
        growth = f"{cpu / rows / before:.2f}" if before else ""
        before = cpu / rows
        cost = f"{wall:>9.1f}{cpu:>9.1f}{1e3 * before:>10.2f}{peak:>9,.0f}{disk[0] / rows / 1e3:>9.1f}"
        print(f"{rows:>12,}{samples:>10,}{cost}{growth:>8}", flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
