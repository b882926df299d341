"""Download against img2dataset 1.47 and Daft 0.7: `make bench-download [CORPUS=DIR]`, or with --only NAME,... for some rows.

All fetch the same pictures from one nginx on loopback, with two cores each, in turn; beside Daft, with one core each. What they
print is measured over the whole run of each, start-up included, and again without the start-up (a run over 20 URLs). CPU
milliseconds per image are the sturdy number on a busy machine; nginx's own time is not in them.

Needs nginx and openssl on the path (Debian: apt-get install nginx-light openssl) and installs the peers into .venv-i2d and
.venv-daft.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import simplejpeg  # noqa: E402
from download_server import Server, check_programs, loopback, nginx  # noqa: E402
from make_pictures import make  # noqa: E402
from measured_run import Run, measured  # noqa: E402
from picture_quality import daft_pictures, our_pictures, peer_pictures, quality, stretched  # noqa: E402

from wit.fetch.config import FetchConfig  # noqa: E402
from wit.images.config import ImageConfig  # noqa: E402
from wit.images.decode import decode, jpeg_scale  # noqa: E402
from wit.images.headers import probe  # noqa: E402
from wit.images.pixels import MARGIN, encode, picture_hashes, stored_picture  # noqa: E402
from wit.images.process import process  # noqa: E402
from wit.images.resize import target_size  # noqa: E402
from wit.records import PLAN, pair_key  # noqa: E402
from wit.store import parquet  # noqa: E402

PEER = ROOT / ".venv-i2d"
PIN = "img2dataset==1.47.0"
DAFT, DAFT_PIN = ROOT / ".venv-daft", "daft==0.7.26"
ONE_CORE = ("taskset", "-c", "0")
PROCESSES = 2
PER_SHARD = 500
MISSING = 0.09  # of the list: URLs that are 404


# --- the two programs --------------------------------------------------------------------------------------------------------


def plan_row(url: str, host: str) -> dict[str, Any]:
    key = pair_key(url, "")
    caption = {"key": key, "text": "", "query_ids": [], "language": None, "page_url": None, "critical_t": 1.0}
    row: dict[str, Any] = dict.fromkeys(PLAN.names)
    return row | {"key": key, "url": url, "canonical_url": url, "host": host, "domain": host, "captions": [caption]}


def run_ours(
    urls: Sequence[str],
    out: Path,
    fetch: FetchConfig,
    image: ImageConfig,
    hosts: Sequence[str] = (),
    cores: int = PROCESSES,
) -> Run:
    """A partition and a pair of processes for each of one or two cores."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for number in range(cores):
        part = slice(len(urls) * number // cores, len(urls) * (number + 1) // cores)
        names = hosts[part] if hosts else ["127.0.0.1"] * len(urls)
        rows = [plan_row(url, host) for url, host in zip(urls[part], names, strict=False)]
        table = pa.Table.from_pylist(rows, schema=PLAN)
        pq.write_table(table, out / f"part-{number:05d}.parquet", row_group_size=PER_SHARD)
    job = out / "job.json"
    told = {"out": str(out), "partitions": cores, "fetch": asdict(fetch), "image": asdict(image)}
    job.write_text(json.dumps(told))
    pinned = ONE_CORE if cores == 1 else ()
    command = [*pinned, sys.executable, str(ROOT / "benchmarks" / "download_job.py"), str(job)]
    wall, cpu, peak, by_role = measured(command)
    markers = [json.loads(path.read_bytes()) for path in (out / "raw").glob("?????-????.json")]
    return Run(sum(marker["out"] for marker in markers), wall, cpu, peak, tuple(sorted(by_role.items())))


def run_peer(urls: Sequence[str], out: Path, ca: str, **options: Any) -> Run:
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = out.with_suffix(".txt")
    listed.write_text("\n".join(urls))
    knobs: dict[str, Any] = {
        "url_list": str(listed),
        "output_folder": str(out),
        "processes_count": PROCESSES,
        "thread_count": 64,
        "image_size": 256,
        "resize_mode": "border",
        "output_format": "webdataset",
        "number_sample_per_shard": PER_SHARD,
        "extract_exif": False,
        "compute_hash": "sha256",
        "enable_wandb": False,
    } | options
    code = f"import img2dataset; img2dataset.download(**{knobs!r})"
    code = f"if __name__ == '__main__':\n    {code}"
    script = out.with_suffix(".py")
    script.write_text(code)
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1", "SSL_CERT_FILE": ca, "PYTHONWARNINGS": "ignore", "WANDB_MODE": "disabled"}
    wall, cpu, peak, _ = measured([str(PEER / "bin/python"), str(script)], quiet)
    stats = [json.loads(path.read_bytes()) for path in out.glob("*_stats.json")]
    return Run(sum(stat["successes"] for stat in stats), wall, cpu, peak)


def run_daft(urls: Sequence[str], out: Path, kind: str) -> Run:
    """Daft on one core; `kind` says whether it stores the pictures too (daft_job.py)."""
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = out.with_suffix(".txt")
    listed.write_text("\n".join(urls))
    job = [str(DAFT / "bin/python"), str(ROOT / "benchmarks" / "daft_job.py"), str(listed), str(out), kind]
    quiet = {"DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"}
    wall, cpu, peak, _ = measured([*ONE_CORE, *job], quiet)
    images = sum(pq.read_metadata(path).num_rows for path in out.glob("*.parquet"))
    return Run(images, wall, cpu, peak)


def install(environment: Path, pin: str) -> None:
    """An environment of a peer's own."""
    if not (environment / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(environment / "bin/pip"), "install", "-q", pin], check=True)
        (environment / "installed").touch()


# --- steps -------------------------------------------------------------------------------------------------------------------


def processes(run: Run) -> None:
    """Where the CPU of a whole run went: what is neither fetching nor decoding is the supervisors', who write the tars."""
    of = dict(run.cpu_by_role)
    per = {
        "fetch": of["fetch"],
        "decode, resize, encode": of["decode"],
        "messages, tars, tables": run.cpu_s - sum(of.values()),
    }
    print("  by process   " + "   ".join(f"{name} {1000 * cpu / run.images:.2f} ms/img" for name, cpu in per.items()))


def steps(corpus: Path) -> None:
    """CPU of every step on JPEGs of the corpus, one thread, beside libjpeg-turbo decoding and encoding alone. One picture after
    the other, as in a build: memory that fills up with results costs more than some of the steps."""
    config = replace(BORDER)
    files = [p.read_bytes() for p in sorted(corpus.glob("*.jpg"))[:400] if "bad" not in p.name]
    for data in files[:20]:
        process(data, config)
    costs: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.thread_time()
        result = call()
        costs[name] = costs.get(name, 0.0) + 1000 * (time.thread_time() - began) / len(files)
        return result

    for data in files:
        timed("sha256 of the body", lambda d=data: hashlib.sha256(d).hexdigest())
        found = timed("probe", lambda d=data: probe(d))
        target = target_size(found.size, config)
        scale = jpeg_scale(found, min(target), max(target), MARGIN)
        pixels = timed("decode", lambda d=data, f=found, s=scale: decode(d, f, scale=s, background="#fff"))
        small = timed("resize and pad", lambda p=pixels, f=found: stored_picture(p, f, config))
        timed("encode", lambda x=small: encode(x, config))
        timed("pHash and PDQ", lambda p=pixels, f=found: picture_hashes(p, f))
        timed("turbo", lambda d=data: simplejpeg.decode_jpeg(d, "RGB", strict=False))
        timed("turbo", lambda x=small: simplejpeg.encode_jpeg(x, config.encode_quality, "RGB", "420"))
    alone = costs.pop("turbo")
    print(f"\nSteps, CPU ms per JPEG ({len(files)} of the corpus, one thread)")
    for name, cost in costs.items():
        print(f"  {name:24} {cost:7.3f}")
    whole = sum(costs.values()) - costs["pHash and PDQ"]
    print(f"  {'sum without hashes':24} {whole:7.3f}   libjpeg-turbo alone, full decode + encode: {alone:.3f}")


# --- rows --------------------------------------------------------------------------------------------------------------------


def url_list(corpus: Path, base: str, times: int = 1) -> list[str]:
    """Every picture, and one that is missing for every tenth; all of them `times` times, which for both programs are others."""
    names = sorted(path.name for path in corpus.iterdir() if path.is_file())
    step = max(2, round(1 / MISSING))
    once = [url for n, name in enumerate(names) for url in [f"{base}/{name}"] + [f"{base}/no{name}"] * (n % step == 0)]
    return once + [f"{url}?{time}" for time in range(1, times) for url in once]


def local_fetch(ca: str, **changes: Any) -> FetchConfig:
    free = {"host_rate_per_s": 0.0, "domain_rate_per_s": 0.0, "address_rate_per_s": 0.0}
    lanes = {"per_host": 64, "per_domain": 64, "per_address": 128}
    return FetchConfig(**({"allow_addresses": ("127.0.0.1",), "ca_file": ca} | free | lanes | changes))


BORDER = ImageConfig(resize_mode="border", resize_only_if_bigger=False, perceptual_hashes=False, encode_quality=95)


def compare(
    name: str, urls: list[str], out: Path, server: Server, image: ImageConfig, repeats: int, **peer: Any
) -> None:
    """Both programs on one list, in turn; prints the median run of each and the ratios of every turn."""
    few, fetch = urls[:20], local_fetch(server.ca)
    their_start = run_peer(few, out / "peer20", server.ca, **peer)
    our_start = run_ours(few, out / "ours20", fetch, image)
    theirs, ours = [], []
    for _ in range(repeats):
        theirs.append(run_peer(urls, out / "peer", server.ca, **peer))
        ours.append(run_ours(urls, out / "ours", fetch, image))
    turns = list(zip(theirs, ours, strict=True))
    steady = [(t.less(their_start), o.less(our_start)) for t, o in turns]
    rows = {
        "rate": [o.rate / t.rate for t, o in turns],
        "CPU": [t.cpu_ms / o.cpu_ms for t, o in turns],
        "rate without start-up": [o.rate / t.rate for t, o in steady],
        "CPU without start-up": [t.cpu_ms / o.cpu_ms for t, o in steady],
    }
    print(f"\n{name} ({len(urls)} URLs, {repeats} turns)")
    print(f"  img2dataset  {middle(theirs).row(their_start)}")
    print(f"  wit          {middle(ours).row(our_start)}")
    for kind, ratios in rows.items():
        print(f"  ratio, {kind:22} median {median(ratios):.2f}x   turns {' '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print(f"  start-up (20 URLs): img2dataset {their_start.wall_s:.1f} s, wit {our_start.wall_s:.1f} s", flush=True)


def daft_row(corpus: Path, urls: list[str], out: Path, server: Server, repeats: int) -> None:
    """Daft's download, decode and resize to 256 x 256, with and without storing JPEGs, and ours with robots.txt and all checks,
    each on one core, in turn. Daft stretches pictures where ours pads them: so ours writes as many pixels."""
    fetch = local_fetch(server.ca)
    programs: dict[str, Callable[[Sequence[str], Path], Run]] = {
        "Daft, pixels": lambda urls, out: run_daft(urls, out, "pixels"),
        "Daft, stored": lambda urls, out: run_daft(urls, out, "stored"),
        "wit": lambda urls, out: run_ours(urls, out, fetch, BORDER, cores=1),
    }
    start = {name: run(urls[:20], out / "start") for name, run in programs.items()}
    turns = [{name: run(urls, out / name) for name, run in programs.items()} for _ in range(repeats)]
    print(f"\nhttp, 256 x 256, no perceptual hashes, one core each ({len(urls)} URLs, {repeats} turns)")
    for name in programs:
        run = middle([turn[name] for turn in turns])
        print(
            f"  {name:12} {run.images} pictures   {run.row(start[name])}   CPU {run.cpu_s:.1f} s of {run.wall_s:.1f} s"
        )
    for name in [name for name in programs if name != "wit"]:
        for kind, ratio in (("rate a core", _rates), ("CPU", _cpus)):
            found = [ratio(turn["wit"], turn[name]) for turn in turns]
            each = " ".join(f"{one:.2f}" for one in found)
            print(f"  ratio to {name}, {kind:11} median {median(found):.2f}x   turns {each}")
    print(f"  quality      Daft  {quality(corpus, daft_pictures(out / 'Daft, stored'), stretched)}")
    print(f"               wit   {quality(corpus, our_pictures(out / 'wit'))}", flush=True)


def _rates(ours: Run, theirs: Run) -> float:
    return ours.rate / theirs.rate


def _cpus(ours: Run, theirs: Run) -> float:
    return theirs.cpu_ms / ours.cpu_ms


def middle(runs: list[Run]) -> Run:
    """The run of median rate."""
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


def hosts_row(corpus: Path, out: Path, server: Server) -> None:
    """The same 5,000 requests to 1 host and to 5,000; small pictures, so that what is measured is the fetching."""
    small = min((p for p in corpus.glob("*.jpg") if "bad" not in p.name), key=lambda p: p.stat().st_size).name
    port = int(server.http.rpartition(":")[2])
    print(f"\n5,000 small pictures from how many hosts ({small})")
    for count in (1, 50, 5_000):
        names = [f"h{n % count}.example" for n in range(5_000)]
        urls = [f"http://{name}/{small}?{n}" for n, name in enumerate(names)]
        ends = tuple((f"h{n}.example", loopback(n), port) for n in range(count))
        for robots in (False, True):
            fetch = local_fetch(server.ca, endpoints=ends, respect_robots=robots, allow_addresses=("127.0.0.0/8",))
            run = run_ours(urls, out / "hosts", fetch, BORDER, names)
            print(f"  {count:5} hosts, robots.txt {'on ' if robots else 'off'}  {run.row()}", flush=True)


def dead_row(corpus: Path, out: Path, server: Server) -> None:
    """The same good URLs alone, and with one URL in five at hosts that never answer."""
    good = [url for url in url_list(corpus, server.http) if "/no" not in url]
    dead = [f"d{n}.example" for n in range(len(good) // 20)]
    with contextlib.ExitStack() as stack:
        ends = []
        for number, name in enumerate(dead):
            silent = stack.enter_context(socket.socket())
            silent.bind((loopback(number), 0))
            silent.listen(64)  # connects, and never says a word
            ends.append((name, *silent.getsockname()))
        knobs = {"timeout_s": 5, "retries": 0, "outage_floor_share": 1, "allow_addresses": ("127.0.0.0/8",)}
        fetch = local_fetch(server.ca, endpoints=tuple(ends), **knobs)
        mixed = [
            url
            for n, g in enumerate(good)
            for url in [g] + [f"http://{dead[n // 4 % len(dead)]}/{n}.jpg"] * (n % 4 == 3)
        ]
        alone = run_ours(good, out / "alone", fetch, BORDER)
        beside = run_ours(mixed, out / "beside", fetch, BORDER, [u.split("/")[2] for u in mixed])
    seconds = fetching_s(out / "alone"), fetching_s(out / "beside")
    print(f"\n20 % of URLs at {len(dead)} silent hosts (time limit 5 s)")
    print(f"  none         {alone.row()}   pictures came for {seconds[0]:.1f} s")
    print(f"  20 %         {beside.row()}   pictures came for {seconds[1]:.1f} s")
    print(
        f"  the pictures took {seconds[1] / seconds[0] - 1:+.1%}; the rest of the wall is the last time limit",
        flush=True,
    )


def fetching_s(out: Path) -> float:
    """Seconds from the first request to the last picture's last byte."""
    begins, ends = [], []
    for path in (out / "raw").glob("?????-????.json"):
        files = json.loads(path.read_bytes())["files"]
        good = parquet.read_table(str(out / files["parquet"]["name"]), ["reason"])["reason"].is_null()
        table = parquet.read_table(str(out / files["fetch"]["name"])).filter(good)
        began = table["started"].cast(pa.int64()).to_numpy() / 1000
        begins.append(began.min())
        ends.append((began + table["duration_s"].to_numpy()).max())
    return float(max(ends) - min(begins))


def soak_row(corpus: Path, out: Path, server: Server, count: int) -> None:
    """Memory over a long run: peak of two workers in each quarter."""
    small = sorted((p for p in corpus.glob("*.jpg") if "bad" not in p.name), key=lambda p: p.stat().st_size)[:400]
    urls = [f"{server.http}/{small[n % len(small)].name}?{n}" for n in range(count)]
    for part in (count // 10, count):
        run = run_ours(urls[:part], out / "soak", local_fetch(server.ca), replace(BORDER, perceptual_hashes=True))
        print(f"  soak, {part} images: {run.row()}", flush=True)


BESIDE_IMG2DATASET = {"http", "https", "keep", "keep-none", "keep-full"}
ROWS = ("http", "daft", "hashes", "https", "keep", "keep-none", "keep-full", "hosts", "dead", "steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="directory of pictures (default: made, 3,000 of them)")
    parser.add_argument("--only", default=",".join(ROWS), help=f"rows to run, of {','.join(ROWS)},soak")
    parser.add_argument("--urls", type=int, default=0, help="only so many URLs of the list")
    parser.add_argument("--times", type=int, default=1, help="the list so many times over")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each comparison")
    parser.add_argument("--soak-images", type=int, default=50_000)
    arguments = parser.parse_args()
    rows = arguments.only.split(",")
    if unknown := set(rows) - {*ROWS, "soak"}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; have {', '.join(ROWS)}, soak")
    check_programs()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    corpus = arguments.corpus or ROOT / "build" / "pictures"
    if not arguments.corpus:
        make(corpus, 3_000)
    if BESIDE_IMG2DATASET.intersection(rows):
        install(PEER, PIN)
    if "daft" in rows:
        install(DAFT, DAFT_PIN)
    scratch = ROOT / "build"  # not the system's temporary directory: that may be memory
    scratch.mkdir(exist_ok=True)
    sizes = [path.stat().st_size for path in corpus.iterdir() if path.is_file()]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {PIN}, {DAFT_PIN}, "
        f"pycurl {version('pycurl')}, "
        f"simplejpeg {version('simplejpeg')}, kornia-rs {version('kornia-rs')}, imagecodecs {version('imagecodecs')}, "
        f"cykooz.resizer {version('cykooz.resizer')}; load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"corpus: {len(sizes)} files, mean {sum(sizes) / len(sizes) / 1000:.0f} kB, median {median(sizes) / 1000:.0f} kB"
    )
    with (
        nginx(corpus, 5_000 if "hosts" in rows else 0) as server,
        tempfile.TemporaryDirectory(dir=scratch) as name,
    ):
        out = Path(name)
        plain = url_list(corpus, server.http, arguments.times)[: arguments.urls or None]
        secure = url_list(corpus, server.https, arguments.times)[: arguments.urls or None]
        if "http" in rows:
            compare("http, 256 border, sha256", plain, out, server, BORDER, arguments.repeats)
            print(f"  quality      img2dataset  {quality(corpus, peer_pictures(out / 'peer'))}")
            print(f"               wit          {quality(corpus, our_pictures(out / 'ours'))}", flush=True)
        if "daft" in rows:
            daft_row(corpus, plain, out, server, arguments.repeats)
        if "hashes" in rows:
            run = run_ours(plain, out / "ours", local_fetch(server.ca), replace(BORDER, perceptual_hashes=True))
            print(f"\nhttp, the same with pHash and PDQ\n  wit          {run.row()}")
            processes(run)
        if "https" in rows:
            compare("https verified, 256 border, sha256", secure, out, server, BORDER, arguments.repeats)
        for row, check in (("keep", "fast"), ("keep-none", "none"), ("keep-full", "full")):
            if row in rows:
                kept, name = (
                    replace(BORDER, keep_original=True, check_pixels=check),
                    f"http, original bytes kept, pixels {check}",
                )
                compare(name, plain, out, server, kept, arguments.repeats, disable_all_reencoding=True)
        if "hosts" in rows:
            hosts_row(corpus, out, server)
        if "dead" in rows:
            dead_row(corpus, out, server)
        if "steps" in rows:
            steps(corpus)
        if "soak" in rows:
            soak_row(corpus, out, server, arguments.soak_images)


if __name__ == "__main__":
    main()
