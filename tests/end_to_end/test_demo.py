"""The whole road over the embedded demonstration web: real WAT files, real HTTP on loopback, real pictures and shards."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from pipelines.build import main
from wit import demo
from wit.verify import verify

ROOT = Path(__file__).parents[2]
SEED = "20"


def build(out: Path, *more: str) -> int:
    return main(["--queries", str(ROOT / "queries/500k.txt"), "--output", str(out), "--seed", SEED, *more])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as a user does it, by a process of its own: its peak memory is that of the build alone."""
    out = tmp_path_factory.mktemp("demo") / "one"
    command = [sys.executable, "-m", "pipelines.build", "--output", str(out), "--seed", SEED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    printed = re.search(r"peak memory of all processes: ([\d,]+) MB", done.stdout)
    assert printed, done.stdout
    out.with_name("peak_mb").write_text(printed[1].replace(",", ""))
    return out


def tables(directory: Path, pattern: str, columns: list[str]) -> pa.Table:
    return pa.concat_tables(pq.read_table(path, columns=columns) for path in sorted(directory.glob(pattern)))


PLACE = ["source", "source_offset", "source_index"]


def fates(out: Path) -> dict[tuple[str, int], str]:
    """(page URL, number of the img tag) -> "kept" or the Reason it met, read from what the build wrote."""
    found = {}
    for row in tables(out / "dropped", "*.parquet", ["page_url", "source_index", "reason"]).to_pylist():
        found[row["page_url"], row["source_index"]] = row["reason"]
    page_of = {
        tuple(row[name] for name in PLACE): row["page_url"]
        for row in tables(out / "candidates", "part-*.parquet", [*PLACE, "page_url"]).to_pylist()
    }
    raw = [p for p in sorted((out / "raw").glob("*.parquet")) if ".fetch." not in p.name]
    for row in pa.concat_tables(pq.read_table(p, columns=[*PLACE, "reason"]) for p in raw).to_pylist():
        if row["reason"]:
            found[page_of[tuple(row[name] for name in PLACE)], row["source_index"]] = row["reason"]
    for row in tables(out / "shards", "*.parquet", PLACE).to_pylist():
        tag = page_of[tuple(row.values())], row["source_index"]
        assert tag not in found
        found[tag] = "kept"
    return found


def test_every_tag_met_its_fate(built: Path) -> None:
    wrong = demo.mismatches(fates(built))
    assert not wrong, f"{len(wrong)} tags met another fate:\n" + "\n".join(wrong[:40])


def test_the_ledger_counts_what_the_tables_hold(built: Path) -> None:
    ledger = json.loads((built / "ledger.json").read_bytes())["stages"]
    dropped = Counter(tables(built / "dropped", "*.parquet", ["reason"])["reason"].to_pylist())
    by_stage: Counter[str] = Counter()
    for stage in ("candidates", "plan", "select"):
        by_stage.update(ledger[stage]["dropped"])
    assert by_stage == dropped
    assert ledger["candidates"]["in"] == len(demo.truth())
    assert ledger["publish"]["out"] == len(tables(built / "shards", "*.parquet", ["key"]))


def test_verify_finds_nothing_wrong(built: Path) -> None:
    assert verify(str(built), level="full").problems == ()


def test_verify_finds_a_flipped_byte_a_removed_sample_and_an_edited_ledger(built: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return Path(shutil.copytree(built, tmp_path / name, ignore=shutil.ignore_patterns("_demo")))

    flipped = broken("flipped")
    tar = flipped / "shards/00000.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    assert any("00000.tar" in line for line in verify(str(flipped), level="full").problems)

    removed = broken("removed")
    table = pq.read_table(removed / "shards/00000.parquet")
    pq.write_table(table.slice(1), removed / "shards/00000.parquet")
    assert any("00000.parquet" in line for line in verify(str(removed), level="metadata").problems)

    edited = broken("edited")
    ledger = json.loads((edited / "ledger.json").read_bytes())
    ledger["stages"]["download"]["dropped"]["timeout"] = 0
    (edited / "ledger.json").write_text(json.dumps(ledger))
    assert any("ledger" in line for line in verify(str(edited), level="metadata").problems)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_webdataset_reads_the_shards_and_open_clip_their_sizes(built: Path) -> None:
    shards = sorted((built / "shards").glob("*.tar"))
    sizes = json.loads((built / "shards/sizes.json").read_bytes())
    assert set(sizes) == {shard.name for shard in shards} and len(shards) > 3
    for shard in shards[:2]:
        pipeline = webdataset.WebDataset(str(shard), shardshuffle=False).decode("pil").to_tuple("jpg", "txt", "json")
        samples = list(pipeline)
        assert len(samples) == sizes[shard.name]
        for image, text, meta in samples:
            assert image.size == (meta["width"], meta["height"])
            assert text == meta["caption"]


# What varies by nature: times and addresses.
VARYING = {"run.json", ".lock", "places"}


def digests(out: Path) -> dict[str, bytes]:
    files = [p for p in sorted(out.rglob("*")) if p.is_file()]
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in files
        if p.name not in VARYING and ".fetch." not in p.name and p.suffix != ".html" and p.name != "README.md"
    }


def without_fetch(files: dict[str, bytes]) -> dict[str, bytes]:
    """Raw markers and the manifest above them name the fetch tables, which differ: everything else in them counts."""
    stable = {}
    for name, data in files.items():
        if name.startswith("raw/") and name.endswith(".json") and not name.endswith("robots.json"):
            value = json.loads(data)
            for marker in value.get("parts", [value]):
                marker["files"].pop("fetch")
            data = json.dumps(value, sort_keys=True).encode()
        if not name.endswith("robots.json"):
            stable[name] = data
    return stable


def assert_same(one: Path, other: Path) -> None:
    first, second = without_fetch(digests(one)), without_fetch(digests(other))
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_two_builds_with_one_seed_are_byte_identical(built: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "two", "--workers", "1") == 0
    assert_same(built, tmp_path / "two")


def markers(out: Path) -> list[Path]:
    return [p for p in (out / "raw").glob("*.json") if p.name.count(".") == 1 and not p.name.startswith("_")]


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Path]:
    """A build that was killed with SIGKILL in the middle of its download."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pipelines.build", "--output", str(out), "--seed", SEED]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(1_200):
        if len(markers(out)) >= 2:
            break
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "processes of a killed build go on"
    assert not (out / "raw/_MANIFEST.json").exists()
    yield out


def test_a_killed_build_goes_on_where_it_was_and_ends_the_same(built: Path, killed: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in markers(killed)}
    assert len(before) >= 2
    assert build(killed) == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    assert after == before  # what was published was not fetched again
    assert_same(built, killed)


def role(process: psutil.Process) -> str:
    """What a process of a build is there for: "fetch", "decode", "worker"; empty for others (the demonstration web)."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if "spawn_main" in " ".join(words):
        return "worker"
    return words[3] if len(words) > 3 and "wit.fetch.child" in words[2] else ""


def test_processes_of_a_build_that_are_killed_cost_nothing(built: Path, tmp_path: Path) -> None:
    out, killed = tmp_path / "wounded", Counter[str]()
    command = [sys.executable, "-m", "pipelines.build", "--output", str(out), "--seed", SEED]
    with open(tmp_path / "said", "wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, stderr=said, stdout=subprocess.DEVNULL)
    seen: set[int] = set()
    for turn in range(2_800):
        if process.poll() is not None:
            break
        for child in psutil.Process(process.pid).children(recursive=True):
            kind = role(child)
            if kind and killed[kind] < 2 and child.pid not in seen and turn % 5 == 0:  # some are at work by then
                seen.add(child.pid)
                child.kill()
                killed[kind] += 1
        time.sleep(0.1)
    process.kill()
    assert process.wait() == 0, (tmp_path / "said").read_text()
    assert killed == {"fetch": 2, "decode": 2, "worker": 2}
    assert_same(built, out)


def test_sigterm_stops_a_download_cleanly_and_the_build_goes_on_later(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "drained"
    command = [sys.executable, "-m", "pipelines.build", "--output", str(out), "--seed", SEED]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    for _ in range(1_200):
        if markers(out):
            break
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3 and "stopped: by SIGTERM" in said
    assert 1 <= len(markers(out)) < len(markers(built))
    assert build(out) == 0
    assert_same(built, out)


def test_a_finished_build_started_again_does_nothing(built: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in built.rglob("*.parquet")}
    assert build(built) == 0
    assert {p: p.stat().st_mtime_ns for p in built.rglob("*.parquet") if "ledger" not in p.parts} == {
        p: t for p, t in before.items() if "ledger" not in p.parts
    }


def test_peak_memory_of_the_demo_build_is_below_1500_mb(built: Path) -> None:
    assert 100 < int(built.with_name("peak_mb").read_text()) < 1_500


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def state(out: Path, *directories: str) -> dict[str, int]:
    files = (p for d in directories for p in (out / d).rglob("*") if p.is_file())
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in files}


def test_settings_that_would_throw_downloads_away_stop_the_build(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(copied, "candidates", "plan", "raw", "select", "shards")
    assert build(copied, "--image-size", "128") == 2
    assert f"would throw away {len(markers(copied))} downloaded shards" in capsys.readouterr().err
    assert state(copied, "candidates", "plan", "raw", "select", "shards") == before


def test_a_changed_filter_rebuilds_what_follows_and_nothing_before(built: Path, copied: Path) -> None:
    before = state(copied, "candidates", "plan", "raw")
    assert build(copied, "--min-image-side-px", "64") == 0
    assert state(copied, "candidates", "plan", "raw") == before
    assert verify(str(copied), level="metadata").problems == ()
    old, new = (json.loads((out / "ledger.json").read_bytes())["stages"]["select"] for out in (built, copied))
    assert new["dropped"]["image_too_small"] > old["dropped"]["image_too_small"]
    assert build(copied) == 0  # and back again: the same bytes as at first
    assert_same(built, copied)


def test_rebuild_from_publish_writes_the_same_shards_again(built: Path, copied: Path) -> None:
    (copied / "shards/00000.tar").write_bytes(b"damaged")
    assert build(copied, "--rebuild-from", "publish") == 0
    assert_same(built, copied)
