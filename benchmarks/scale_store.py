"""A store of made-up names that counts what it is asked, and a set in it with all units of every stage done."""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import gc
import io
import json
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from wit.candidates.passes import Extracted
from wit.layout import directory_of, manifest_of
from wit.plan.facts import QUERIES, RATES, Pairs, Partition, Solved
from wit.plan.owners import Rates
from wit.plan.passes import without_work
from wit.publish.shard import ShardMarker
from wit.publish.whole import manifest_of as published_manifest
from wit.store.manifests import Beside, File, Marker, Unit
from wit.store.parts import StageDir
from wit.typed import Rest, dump, to_json

try:
    from wit.plan.facts import Begun, Shape
except ImportError:  # an earlier commit
    Begun = Shape = None
OUT = "counted://out"
NAMES_A_REQUEST = 1_000  # of a listing or a removal, on S3
LARGE = 1 << 20  # bytes


class Counted(AbstractFileSystem):  # type: ignore[misc]
    """Names and sizes by folder; what a file holds is made when it is read."""

    protocol = "counted"
    cachable = False
    latency_s = 0.0
    folders: dict[str, dict[str, int]] = {}
    makers: dict[str, Callable[[str], bytes]] = {}
    written: dict[str, bytes | Path] = {}
    """What was put there. What is large lies in a file: in memory it would count as the driver's."""
    sorted: dict[str, list[str]] = {}
    large = tempfile.TemporaryDirectory()
    calls: Counter[str] = Counter()
    moved = 0
    """Bytes that were got and put."""
    lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return path.removeprefix("counted://").rstrip("/")

    def unstrip_protocol(self, name: str) -> str:
        return f"counted://{self._strip_protocol(name)}"

    def _request(self, kind: str, names: int = 1) -> None:
        requests = max(1, -(-names // NAMES_A_REQUEST))
        with Counted.lock:
            Counted.calls[kind] += requests
        if Counted.latency_s:
            time.sleep(Counted.latency_s * requests)

    def _size(self, path: str) -> int | None:
        folder, _, name = path.rpartition("/")
        return self.folders.get(folder, {}).get(name)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._request("info")
        path = self._strip_protocol(path)
        if (size := self._size(path)) is not None:
            return {"name": path, "size": size, "type": "file"}
        if any(names for folder, names in self.folders.items() if f"{folder}/".startswith(f"{path}/")):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        files = self.folders.get(path, {})
        below = [folder for folder in self.folders if folder.rpartition("/")[0] == path]
        self._request("list", len(files) + len(below))
        if not detail:
            return [*(f"{path}/{name}" for name in files), *below]
        named = [{"name": f"{path}/{name}", "size": size, "type": "file"} for name, size in files.items()]
        return [*named, *({"name": folder, "size": 0, "type": "directory"} for folder in below)]

    def page(self, path: str, beginning: str, after: str) -> tuple[list[tuple[str, int]], bool]:
        """As S3 lists: (1,000 names behind `after` with their sizes, whether there are more)."""
        self._request("list")
        names = self.folders.get(path, {})
        if path not in self.sorted or len(self.sorted[path]) != len(names):
            self.sorted[path] = sorted(names)
        every = self.sorted[path]
        begin = bisect.bisect_right(every, after) if after else bisect.bisect_left(every, beginning)
        end = bisect.bisect_left(every, beginning + chr(0x10FFFF))
        some = every[begin : min(end, begin + NAMES_A_REQUEST)]
        return [(name, names[name]) for name in some], end > begin + NAMES_A_REQUEST

    def find(self, path: str, detail: bool = False, prefix: str = "", **_: Any) -> Any:
        path = self._strip_protocol(path)
        if prefix:  # as earlier versions listed
            names = self.folders.get(path, {})
            some = sorted(name for name in names if name.startswith(prefix))
            self._request("list", len(some))
            return {f"{path}/{name}": {"name": f"{path}/{name}", "size": names[name], "type": "file"} for name in some}
        inside = {
            f"{folder}/{name}": {"name": f"{folder}/{name}", "size": size, "type": "file"}
            for folder, names in self.folders.items()
            if f"{folder}/".startswith(f"{path}/")
            for name, size in names.items()
        }
        self._request("list", len(inside))
        return inside if detail else sorted(inside)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self._request("get")
        path = self._strip_protocol(path)
        if self._size(path) is None:
            raise FileNotFoundError(path)
        folder, _, name = path.rpartition("/")
        held = self.written[path] if path in self.written else self.makers[folder](name)
        data = (held.read_bytes() if isinstance(held, Path) else held)[start:end]
        Counted.moved += len(data)
        return data

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        Path(lpath).write_bytes(self.cat_file(rpath))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        self._request("put")
        if mode == "create" and self._size(self._strip_protocol(path)) is not None:
            raise FileExistsError(path)
        put(path, value)

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self._request("put")
        Counted.moved += Path(lpath).stat().st_size
        put(rpath, Path(lpath))

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        paths = [self._strip_protocol(one) for one in ([path] if isinstance(path, str) else path)]
        self._request("remove", len(paths))
        for one in paths:
            drop(one, recursive)


def put(path: str, data: bytes | Path) -> None:
    """Puts a file, uncounted."""
    folder, _, name = path.removeprefix("counted://").rpartition("/")
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    Counted.folders.setdefault(folder, {})[name] = size
    if size <= LARGE:
        Counted.written[f"{folder}/{name}"] = data.read_bytes() if isinstance(data, Path) else data
        return
    held = Path(tempfile.mkdtemp(dir=Counted.large.name), "data")
    Counted.written[f"{folder}/{name}"] = held
    if isinstance(data, Path):
        shutil.copyfile(data, held)
    else:
        held.write_bytes(data)


def drop(path: str, recursive: bool = False) -> None:
    """Removes a file or a folder, uncounted."""
    folder, _, name = path.removeprefix("counted://").rpartition("/")
    Counted.folders.get(folder, {}).pop(name, None)
    Counted.written.pop(f"{folder}/{name}", None)
    if recursive:
        Counted.folders.pop(f"{folder}/{name}", None)


def drop_all(path: str) -> None:
    """Removes all below a folder, uncounted."""
    above = path.removeprefix("counted://")
    for folder in [one for one in Counted.folders if f"{one}/".startswith(f"{above}/")]:
        del Counted.folders[folder]


DIGEST = "0123456789ab" * 6
REASONS = {"http_not_found": 2_000, "timeout": 500, "too_small": 1_000}
# Labels of the files of a unit, with the endings of their names.
FILES = {
    "scatter": {"dropped": ".parquet"},
    "merge": {"dropped": ".parquet"},
    "thin": {"dropped": ".parquet"},
    "admit": {"dropped": ".parquet"},
    "rates": {},
    "raw": {"tar": ".tar", "parquet": ".parquet", "fetch": ".fetch.parquet"},
    "part": {"rows": ".parquet"},
    "keep": {"rows": ".parquet", "dropped": ".parquet"},
    "queries": {"rows": ".parquet"},
}
# What plan's passes hand on where rows travel through the engine; before there was such a way it lay beside the rest.
HANDED_ON = {"merge": ("narrow", "wide"), "thin": ("kept",), "weigh": ("weighed",)}
OF_BUCKETS = ("merge", "thin", "admit") if Begun else ("merge", "thin", "weigh", "admit")
if not Begun:
    FILES |= {
        "scatter": {"slices": ".arrow", "index": ".json"},
        "merge": {"pairs": ".arrow"},
        "thin": {"pairs": ".arrow", "dropped": ".parquet"},
        "weigh": {"pairs": ".arrow"},
        "admit": {"slices": ".arrow", "index": ".json", "dropped": ".parquet"},
    }
WORK = ("slices", "index", "pairs")  # labels of files between passes


class Set:
    """A set at a share of the size that design 11 is made for."""

    def __init__(self, scale: float) -> None:
        self.raw = max(20, round(80_000 * scale))
        self.partitions, self.final = self.raw // 10, self.raw // 2
        self.candidates, self.buckets = (
            max(2, round(2_000 * scale)),
            max(4, round((80_000 if Begun else 40_000) * scale)),
        )
        self.rows = 10_000  # of a raw shard

    def units(self, stage: str) -> list[Unit]:
        """All units of a stage."""
        if stage == "candidates":
            return [Unit.numbered("part", n) for n in range(self.candidates)]
        if stage == "plan":
            scattered = [Unit.numbered("scatter", n) for n in range(self.candidates)]
            of_buckets = [Unit.numbered(k, n) for k in OF_BUCKETS for n in range(self.buckets)]
            alone = [QUERIES, RATES] if Begun else [QUERIES]
            return [*scattered, *of_buckets, *(Unit.numbered("part", n) for n in range(self.partitions)), *alone]
        kind = "" if stage == "download" else "part"
        return [Unit.raw(f"{n // 10:05d}", n % 10).as_(kind) for n in range(self.raw)]

    def marker(self, stage: str, unit: Unit, fingerprint: str) -> Marker:
        """The marker of a unit."""
        into, out, dropped, facts = self._counts(stage, unit)
        labels = FILES["raw" if stage == "download" else "keep" if stage == "select" else unit.kind]
        files = {label: self._file(stage, unit, label, ending) for label, ending in labels.items()}
        beside = (Beside(f"raw/{unit.place[:5]}.robots.json"),) if stage == "download" else ()
        return Marker(
            into=into,
            out=out,
            dropped=dropped,
            unit=unit,
            fingerprint=fingerprint,
            files=files,
            beside=beside,
            facts=Rest(dump(facts) if facts is not None else {}),
        )

    def _counts(self, stage: str, unit: Unit) -> tuple[int, int, dict[str, int], Any]:
        lost = sum(REASONS.values())
        if stage == "plan":
            pairs = self.buckets * 250_000 // self.candidates
            facts = {"part": Partition(10, None), "queries": Solved(1.0, 0.5)}.get(unit.kind, Pairs(250_000))
            if Begun and unit == RATES:
                return 0, 0, {}, Begun(Rates().kept(), Shape(self.buckets, 10, self.partitions))
            into, out = (pairs if unit.kind == "scatter" else 0), (10 * self.rows if unit.kind == "part" else 0)
            return into, out, {}, None if unit.kind in ("scatter", "admit") else facts
        if stage == "candidates":
            return (
                self.buckets * 250_000 // self.candidates,
                self.buckets * 250_000 // self.candidates,
                {},
                Extracted(()),
            )
        return (
            (self.rows, self.rows - lost, REASONS, None)
            if stage == "download"
            else (6_500, 5_000, {"duplicate": 1_500}, None)
        )

    def _file(self, stage: str, unit: Unit, label: str, ending: str) -> File:
        place = f"dropped/{stage}-{unit}" if label == "dropped" else f"{directory_of(stage)}/{unit}"
        return File(f"{place}.{DIGEST[:12]}{ending}", 1_000_000, DIGEST[:64])

    def lay(self, stage: str, fingerprint: str, *, work: bool) -> None:
        """Puts all markers and files of a stage there; files between passes only for a stage that is not finished."""
        units = self.units(stage)
        folder = f"out/{directory_of(stage)}"
        sizes: dict[str, int] = {}
        for unit in units:
            marker = self.marker(stage, unit, fingerprint)
            kind = unit.kind
            sizes[kind] = sizes.get(kind) or len(to_json(marker))
            Counted.folders.setdefault(folder, {})[f"{unit}.json"] = sizes[kind]
            for label, file in marker.files.items():
                if work or label not in WORK:
                    at, _, name = f"out/{file.name}".rpartition("/")
                    Counted.folders.setdefault(at, {})[name] = file.bytes

        def made(name: str) -> bytes:
            unit, _, rest = name.partition(".")
            if rest == "json":
                return to_json(self.marker(stage, Unit.parse(unit), fingerprint))
            numbers = range(self.buckets if unit.startswith("scatter") else self.partitions)  # an index of slices
            return json.dumps([[number, 0, 1, 1] for number in numbers]).encode()

        Counted.makers[folder] = made
        if stage == "plan":
            self._put_queries(fingerprint)
        if stage == "plan" and work and Begun:
            self._hand_on()

    def _hand_on(self) -> None:
        """Puts there what the passes of plan hand on."""
        between = StageDir(OUT, "plan", "").at_work
        for kind, labels in HANDED_ON.items():
            for number in range(self.buckets):
                at, _, name = (
                    between.marker_path(Unit.numbered(kind, number)).removeprefix("counted://").rpartition("/")
                )
                names = [name, *(f"{name.removesuffix('.json')}.{DIGEST[:12]}.{label}.arrow" for label in labels)]
                Counted.folders.setdefault(at, {}).update(dict.fromkeys(names, 100_000))

    def _put_queries(self, fingerprint: str) -> None:
        data = io.BytesIO()
        pq.write_table(pa.table({"query": ["a"], "pairs": pa.array([5], pa.int64()), "weight": [5.0]}), data)
        name = self.marker("plan", QUERIES, fingerprint).files["rows"].name
        put(f"{OUT}/{name}", data.getvalue())
        Counted.folders["out/plan"][name.removeprefix("plan/")] = 1_000_000

    def finish(self, stage: str, fingerprint: str) -> None:
        """Writes the manifest of a stage."""
        if stage == "publish":
            shards = [self.shard(number) for number in range(self.final)]
            for shard in shards:
                for name in (*(file.name for file in shard.files.values()), f"{shard.shard}_stats.json"):
                    Counted.folders.setdefault("out/shards", {})[name] = 1_000_000
            manifest = published_manifest(StageDir(OUT, stage, fingerprint), shards)
            for file in manifest.files:
                Counted.folders["out/shards"][file.name] = file.bytes
            put(f"{OUT}/{manifest_of(stage)}", to_json(manifest))
            return
        parts = [self.marker(stage, unit, fingerprint) for unit in self.units(stage)]
        parts = [without_work(part) for part in parts] if stage == "plan" else parts
        directory = StageDir(OUT, stage, fingerprint)
        info = {"dropped_one_in": 1} if stage == "candidates" else {}
        put(
            f"{OUT}/{manifest_of(stage)}",
            to_json(directory.summed(parts, wanted=tuple(str(p.unit) for p in parts), **info)),
        )

    def shard(self, number: int) -> ShardMarker:
        """The marker of a final shard."""
        name = f"{number:05d}"
        files = {ending: File(f"{name}.{ending}", 1_000_000, DIGEST[:64]) for ending in ("tar", "parquet")}
        return ShardMarker(name, 10_000, 10_000, 0, 0, {"success": 10_000}, DIGEST[:32], files)

    def give_back(self, elements: Iterable[Any], folder: str) -> None:
        """Lays down what an engine's workers would have written, in files of 1,000."""
        every = list(elements)
        for number in range(0, len(every), NAMES_A_REQUEST):
            data = b"[" + b",".join(map(to_json, every[number : number + NAMES_A_REQUEST])) + b"]"
            put(f"{folder}/{number // NAMES_A_REQUEST:05d}.json", data)


@dataclass
class Line:
    """What one thing costs the driver."""

    stage: str
    what: str
    requests: int
    seconds: float
    megabytes: float
    graph_kb: float = 0.0
    """The size of the job's graph, where there is a job."""
    graph: ClassVar[int] = 0


def measured(stage: str, what: str, work: Callable[[], Any]) -> Line:
    """Runs the work, and counts its requests, its seconds, and how far memory rises above what it was."""
    Counted.calls.clear()
    Line.graph = 0
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the stage before has left would be taken again, and not be counted
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher, started = threading.Thread(target=watch, daemon=True), time.monotonic()
    watcher.start()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            work()
    finally:
        seconds = time.monotonic() - started
        done.set()
        watcher.join()
    return Line(stage, what, sum(Counted.calls.values()), seconds, (peak - before) / 1e6, Line.graph / 1e3)
