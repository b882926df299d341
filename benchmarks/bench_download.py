"""Download against img2dataset 1.47: `make bench-download [CORPUS=DIR]`, or with --only NAME,... for some of the rows.

Both fetch the same pictures from one nginx on loopback, with two cores each, in turn; what they print is measured over the
whole run of each, start-up included, and again without the start-up (a run over 20 URLs). CPU milliseconds per image are the
sturdy number on a busy machine; nginx's own time is not in them.

Needs nginx and openssl on the path (Debian: apt-get install nginx-light openssl) and installs the peer into .venv-i2d.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import certifi
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import simplejpeg  # noqa: E402
from make_pictures import make  # noqa: E402

from wit.fetch.config import FetchConfig  # noqa: E402
from wit.images.config import ImageConfig  # noqa: E402
from wit.images.decode import decode, jpeg_scale  # noqa: E402
from wit.images.headers import probe  # noqa: E402
from wit.images.pixels import MARGIN, encode, picture_hashes, stored_picture  # noqa: E402
from wit.images.process import process  # noqa: E402
from wit.images.resize import target_size  # noqa: E402
from wit.records import PLAN, pair_key  # noqa: E402

PEER = ROOT / ".venv-i2d"
PIN = "img2dataset==1.47.0"
PROCESSES = 2
PER_SHARD = 500
MISSING = 0.09  # of the list: URLs that are 404
QUALITY_SAMPLE = 400


@dataclass(frozen=True)
class Run:
    """What one run of one program cost."""

    images: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    cpu_by_role: tuple[tuple[str, float], ...] = ()  # of our fetch and decode processes

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.images / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Of one picture."""
        return 1000 * self.cpu_s / max(self.images, 1)

    def less(self, start: Run) -> Run:
        """Without what starting up costs."""
        return replace(self, wall_s=max(self.wall_s - start.wall_s, 0.01), cpu_s=max(self.cpu_s - start.cpu_s, 0.01))

    def row(self, start: Run | None = None) -> str:
        words = f"{self.rate:7.1f} img/s  {self.cpu_ms:6.2f} ms CPU/img"
        if start:
            words += f"   without start-up {self.less(start).rate:7.1f} img/s {self.less(start).cpu_ms:6.2f} ms"
        return f"{words}   peak {self.peak_mb:5.0f} MB"


# --- the server ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    http: str
    https: str
    ca: str


def free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


def certificate(folder: Path) -> None:
    """A certificate authority and a server certificate for 127.0.0.1, for this run only."""
    quiet: dict[str, Any] = {"cwd": folder, "check": True, "capture_output": True}
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    authority = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run([*new, "-x509", "-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.pem", *authority], **quiet)
    subprocess.run([*new, "-subj", "/CN=127.0.0.1", "-keyout", "key.pem", "-out", "request.pem"], **quiet)
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ["openssl", "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"]
    subprocess.run([*sign, "-CAcreateserial", "-extfile", "san", "-out", "cert.pem"], **quiet)


def loopback(number: int) -> str:
    """A loopback address of its own for each of many hosts."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


@contextlib.contextmanager
def nginx(corpus: Path, addresses: int = 0) -> Iterator[Server]:
    """Serves the corpus on loopback, http and https, one worker; http on so many further addresses too."""
    with tempfile.TemporaryDirectory() as name:
        folder, plain, secure = Path(name), free_port(), free_port()
        folder.chmod(0o755)
        certificate(folder)
        (folder / "nginx.conf").write_text(f"""
            daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; worker_rlimit_nofile 16384;
            user root;
            events {{ worker_connections 14000; }}
            http {{
                types {{ image/jpeg jpg; image/png png; image/webp webp; image/gif gif; }}
                access_log off; sendfile on; keepalive_requests 1000;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi;
                uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
                server {{
                    listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{secure} ssl backlog=4096;
                    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
                    {" ".join(f"listen {loopback(number)}:{plain} backlog=64;" for number in range(addresses))}
                    root {corpus.resolve()};
                }}
            }}""")
        command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", name]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(plain)
                ca = folder / "bundle.pem"  # the usual bundle and ours: loading it is part of the cost
                ca.write_text(Path(certifi.where()).read_text() + (folder / "ca.pem").read_text())
                yield Server(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}", str(ca))
            finally:
                server.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx does not start: is it installed?")


# --- measuring ---------------------------------------------------------------------------------------------------------------


def measured(
    command: list[str], environment: dict[str, str] | None = None
) -> tuple[float, float, float, dict[str, float]]:
    """(wall seconds, CPU seconds of the process and all it waited for, peak PSS of its tree in MB, CPU seconds by role of our
    children)."""
    began, peak = time.monotonic(), 0.0
    roles: dict[int, tuple[str, float]] = {}
    process = subprocess.Popen(
        command, env=os.environ | (environment or {}), stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.4):
            tree = family(process.pid)
            peak = max(peak, sum(map(pss_mb, tree)))
            roles.update((one.pid, found) for one in tree if (found := role_and_cpu(one)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    over.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {process.returncode}")
    by_role: dict[str, float] = {}
    for role, cpu in roles.values():
        by_role[role] = by_role.get(role, 0.0) + cpu
    return wall, usage.ru_utime + usage.ru_stime, peak, by_role


def family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def pss_mb(one: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(one.memory_full_info().pss / 1e6)
    return 0.0


def role_and_cpu(one: psutil.Process) -> tuple[str, float] | None:
    """What one of our children is there for, and its CPU seconds so far."""
    with contextlib.suppress(psutil.Error):
        words, times = one.cmdline(), one.cpu_times()
        if len(words) > 3 and "wit.fetch.child" in words[2]:
            return words[3], times.user + times.system
    return None


# --- the two programs --------------------------------------------------------------------------------------------------------


def plan_row(url: str, host: str) -> dict[str, Any]:
    key = pair_key(url, "")
    caption = {"key": key, "text": "", "query_ids": [], "language": None, "page_url": None, "critical_t": 1.0}
    row: dict[str, Any] = dict.fromkeys(PLAN.names)
    return row | {"key": key, "url": url, "canonical_url": url, "host": host, "domain": host, "captions": [caption]}


def run_ours(urls: Sequence[str], out: Path, fetch: FetchConfig, image: ImageConfig, hosts: Sequence[str] = ()) -> Run:
    """A partition and a pair of processes for each of two cores."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for number in range(PROCESSES):
        part = slice(len(urls) * number // PROCESSES, len(urls) * (number + 1) // PROCESSES)
        names = hosts[part] if hosts else ["127.0.0.1"] * len(urls)
        rows = [plan_row(url, host) for url, host in zip(urls[part], names, strict=False)]
        table = pa.Table.from_pylist(rows, schema=PLAN)
        pq.write_table(table, out / f"part-{number:05d}.parquet", row_group_size=PER_SHARD)
    job = out / "job.json"
    told = {"out": str(out), "partitions": PROCESSES, "fetch": asdict(fetch), "image": asdict(image)}
    job.write_text(json.dumps(told))
    wall, cpu, peak, by_role = measured([sys.executable, str(ROOT / "benchmarks" / "download_job.py"), str(job)])
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


def install_peer() -> None:
    if not (PEER / "bin/img2dataset").exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
        subprocess.run([str(PEER / "bin/pip"), "install", "-q", PIN], check=True)


# --- quality -----------------------------------------------------------------------------------------------------------------


def reference(data: bytes, size: int = 256) -> np.ndarray[Any, Any]:
    """Full decode, upright, Pillow's Lanczos with its longer side `size`, on a white square: uncompressed."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    by = size / max(picture.size)
    width, height = (max(1, round(side * by)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    paper = Image.new("RGB", (size, size), "white")
    paper.paste(small, ((size - width) // 2, (size - height) // 2))
    return np.asarray(paper, np.float64)


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    error = float(((a - b) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Mean structural similarity of the luma over 8 x 8 windows at every position (Wang et al. 2004, uniform window)."""
    x, y = (picture @ (0.299, 0.587, 0.114) for picture in (a, b))

    def means(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        return (total[8:, 8:] - total[:-8, 8:] - total[8:, :-8] + total[:-8, :-8]) / 64

    mx, my = means(x), means(y)
    vx, vy, vxy = means(x * x) - mx**2, means(y * y) - my**2, means(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def our_pictures(out: Path) -> dict[str, bytes]:
    """File name in the corpus -> stored bytes."""
    found = {}
    for path in (out / "raw").glob("?????-????.json"):
        files = json.loads(path.read_bytes())["files"]
        tar = (out / files["tar"]["name"]).read_bytes()
        for row in pq.read_table(out / files["parquet"]["name"]).to_pylist():
            if row["reason"] is None:
                found[row["url"].rpartition("/")[2]] = tar[row["tar_offset"] : row["tar_offset"] + row["tar_size"]]
    return found


def peer_pictures(out: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(out.glob("*.parquet")):
        urls = {row["key"]: row["url"] for row in pq.read_table(path).to_pylist() if row["status"] == "success"}
        with tarfile.open(path.with_suffix(".tar")) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if extension == "jpg" and key in urls:
                    body = tar.extractfile(member)
                    assert body
                    found[urls[key].rpartition("/")[2]] = body.read()
    return found


def quality(corpus: Path, stored: dict[str, bytes]) -> str:
    names = sorted(name for name in stored if name.endswith("jpg"))
    names = names[:: max(1, len(names) // QUALITY_SAMPLE)]
    pairs = []
    for name in names:
        wanted = reference((corpus / name).read_bytes())
        got = np.asarray(Image.open(io.BytesIO(stored[name])).convert("RGB"), np.float64)
        if got.shape == wanted.shape:
            pairs.append((psnr(wanted, got), ssim(wanted, got)))
    p, s = (np.array(column) for column in zip(*pairs, strict=True))
    return (
        f"PSNR median {np.median(p):5.2f} p5 {np.percentile(p, 5):5.2f} dB   SSIM median {np.median(s):.4f} "
        f"p5 {np.percentile(s, 5):.4f}   ({len(pairs)} JPEGs)"
    )


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
        good = pq.read_table(out / files["parquet"]["name"], columns=["reason"])["reason"].is_null()
        table = pq.read_table(out / files["fetch"]["name"]).filter(good)
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


ROWS = ("http", "hashes", "https", "keep", "hosts", "dead", "steps")


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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    corpus = arguments.corpus or ROOT / "build" / "pictures"
    if not arguments.corpus:
        make(corpus, 3_000)
    install_peer()
    scratch = ROOT / "build"  # not the system's temporary directory: that may be memory
    scratch.mkdir(exist_ok=True)
    sizes = [path.stat().st_size for path in corpus.iterdir() if path.is_file()]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {PIN}, pycurl {version('pycurl')}, "
        f"simplejpeg {version('simplejpeg')}, cykooz.resizer {version('cykooz.resizer')}; "
        f"load {os.getloadavg()[0]:.1f}"
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
        if "hashes" in rows:
            run = run_ours(plain, out / "ours", local_fetch(server.ca), replace(BORDER, perceptual_hashes=True))
            print(f"\nhttp, the same with pHash and PDQ\n  wit          {run.row()}")
            processes(run)
        if "https" in rows:
            compare("https verified, 256 border, sha256", secure, out, server, BORDER, arguments.repeats)
        if "keep" in rows:
            kept = replace(BORDER, keep_original=True)
            keep = {"disable_all_reencoding": True}
            compare("http, original bytes kept, sha256", plain, out, server, kept, arguments.repeats, **keep)
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
