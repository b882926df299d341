"""The demonstration web on real engines, by `make test-spark`, `test-flink` and `test-prism`: the same files, byte for byte."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from wit.store import fs

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "stores_real")]

import engines
import servers

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
BUILD = (
    "--queries",
    str(engines.ROOT / "queries" / "500k.txt"),
    "--seed",
    "7",
    "--rows-per-partition",
    "1500",
    "--fetch-workers",
    "2",
)
SAME = ("candidates", "plan", "select", "shards", "dropped")


def built(out: Path | str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.build", *BUILD, "--output", str(out), *flags]
    return subprocess.run(command, cwd=engines.ROOT, capture_output=True, text=True, check=False)


def contents(out: Path) -> dict[str, bytes]:
    """What no engine and no kill may change: markers and manifests, too."""
    files = [path for stage in SAME for path in (out / stage).rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What this machine's own engine makes."""
    out = tmp_path_factory.mktemp("here") / "set"
    done = built(out)
    assert done.returncode == 0, done.stderr
    return contents(out)


def check(done: subprocess.CompletedProcess[str], out: Path, here: dict[str, bytes]) -> None:
    """A build that ended well: the same bytes, nothing left, no traceback, pictures counted while they came."""
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "Traceback" not in done.stderr, done.stderr[-3_000:]
    made = contents(out)
    assert made.keys() == here.keys() and [name for name in here if made[name] != here[name]] == []
    assert {path.name for path in out.iterdir()}.isdisjoint({"_work", "_turns"})


@pytest.mark.spark
def test_spark_in_one_process_gives_the_same(here: dict[str, bytes], tmp_path: Path) -> None:
    with engines.job_server("spark", tmp_path, "local[2]") as endpoint:
        flags = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", *engines.LOOPBACK)
        check(built(tmp_path / "set", *flags), tmp_path / "set", here)


@pytest.mark.spark
def test_spark_with_its_output_in_a_store_gives_the_same(
    here: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On S3, which MinIO speaks; workers are processes of their own and find its credentials in their environment."""
    with servers.running(servers.SERVERS["s3"], tmp_path / "minio") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with engines.job_server("spark", tmp_path, "local[2]") as endpoint:
            own = (*engines.workers_of_their_own(tmp_path), engines.beam_by_name(tmp_path))
            done = built(f"s3://{servers.BUCKET}/set", "--runner=PortableRunner", f"--job_endpoint={endpoint}", *own)
        out = f"s3://{servers.BUCKET}/set"
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-3_000:]
        # Markers bear the versions of sources, which are others on a store.
        tables = {name: data for name, data in here.items() if not name.endswith(".json")}
        made = {f"{stage}/{name}" for stage in SAME for name in fs.find(f"{out}/{stage}") if not name.endswith(".json")}
        assert made == tables.keys()
        assert [name for name in sorted(made) if fs.read_bytes(f"{out}/{name}") != tables[name]] == []
        assert {"_work", "_turns"}.isdisjoint(fs.list_dir(out))
        assert environment["AWS_SECRET_ACCESS_KEY"] not in fs.read_bytes(f"{out}/run.json").decode()


@pytest.mark.flink
def test_flink_in_one_process_gives_the_same(here: dict[str, bytes], tmp_path: Path) -> None:
    with engines.job_server("flink", tmp_path, "[local]") as endpoint:
        flags = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", *engines.LOOPBACK, "--parallelism=2")
        check(built(tmp_path / "set", *flags), tmp_path / "set", here)


@pytest.mark.prism
def test_prism_gives_the_same(here: dict[str, bytes], tmp_path: Path) -> None:
    flags = ("--runner=PrismRunner", f"--prism_location={engines.program('prism')}", *engines.LOOPBACK)
    check(built(tmp_path / "set", *flags), tmp_path / "set", here)


@contextlib.contextmanager
def building(out: Path, said: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """A build at work; what it says goes into a file."""
    command = [sys.executable, "-m", "pipelines.build", *BUILD, "--output", str(out), *flags]
    with said.open("wb") as log:
        process = subprocess.Popen(command, cwd=engines.ROOT, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def until(process: subprocess.Popen[bytes], said: Path, done: Callable[[], bool], seconds: float = 300.0) -> None:
    """Returns when it is done; a build that ends before is a failure."""
    deadline = time.monotonic() + seconds
    while not done():
        assert process.poll() is None and time.monotonic() < deadline, said.read_text(encoding="utf-8")[-3_000:]
        time.sleep(0.2)


def shards_of(out: Path) -> int:
    return len(list((out / "raw").glob("*.tar")))


@pytest.mark.spark
def test_a_cluster_whose_executors_and_driver_are_killed_gives_the_same(here: dict[str, bytes], tmp_path: Path) -> None:
    """An executor in the download, then the driver; the next start ends the job that was left, and goes on; an executor in
    select."""
    out, said = tmp_path / "set", tmp_path / "said.txt"
    with engines.spark_cluster(tmp_path) as cluster, engines.job_server("spark", tmp_path, cluster.master) as endpoint:
        own = (*engines.workers_of_their_own(tmp_path), engines.beam_by_name(tmp_path))
        flags = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", *own)
        with building(out, said, *flags) as driver:
            until(driver, said, lambda: shards_of(out) >= 1)
            cluster.executors()[0].send_signal(signal.SIGKILL)
            before = shards_of(out)
            until(driver, said, lambda: shards_of(out) >= before + 2)
            driver.send_signal(signal.SIGKILL)
            driver.wait()
        kept = {path.name: path.stat().st_mtime_ns for path in (out / "raw").glob("*.tar")}
        with building(out, said, *flags, "--cancel-running") as driver:
            until(driver, said, lambda: (out / "_work/select").exists())
            cluster.executors()[0].send_signal(signal.SIGKILL)
            assert driver.wait(300) == 0, said.read_text(encoding="utf-8")[-3_000:]
        words = said.read_text(encoding="utf-8")
        assert "is still at work" in words and "ended CANCELLED" in words, words[-3_000:]
        now = {path.name: path.stat().st_mtime_ns for path in (out / "raw").glob("*.tar")}
        assert kept.items() <= now.items()
    check(subprocess.CompletedProcess([], 0, "", words), out, here)
    assert left_of(tmp_path) == []


def left_of(folder: Path) -> list[str]:
    """The processes that still have to do with a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(folder) in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline())[:200])
    return found
