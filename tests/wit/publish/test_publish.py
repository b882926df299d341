import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.errors import InputError, Stopped
from wit.publish import whole
from wit.publish.config import PublishConfig
from wit.publish.order import KeepPart, plan_shards
from wit.publish.sample import SAMPLES
from wit.publish.shard import extents, read_pictures, write_shard, write_tar
from wit.records import KEEP
from wit.shards import iter_members, iter_samples, list_shards
from wit.store import fs
from wit.store.manifests import File, Manifest, Marker, Published, read_manifest
from wit.store.parts import StageDir
from wit.typed import to_json

SMALL = PublishConfig(samples_per_shard=7, raw_shards_per_group=2)
IMG2DATASET = SAMPLES.names[:11]


@pytest.mark.parametrize("knob", ["samples_per_shard", "raw_shards_per_group", "publish_buffer_mb"])
def test_a_knob_without_sense_is_bad_input(knob: str) -> None:
    with pytest.raises(InputError, match=knob.replace("_", "-")):
        PublishConfig(**{knob: 0})


def make_raw(out: str, raw: Callable[..., Manifest], raw_row: Any, count: int = 20) -> Manifest:
    shards = {
        f"0000{s}-0000": [
            raw_row(f"{s}-{i}", [(f"é {s} {i}", [i % 4])], look=s * 100 + i if i % 5 else None, size=(40 + i, 50))
            for i in range(count)
        ]
        for s in range(3)
    }
    return raw(out, shards)


def run_publish(out: str, download: Manifest, seed: int = 1, config: PublishConfig = SMALL) -> Published:
    """Publishes every fetched picture, as a select that drops nothing would hand them on."""
    stage = StageDir(out, "publish", "f" * 32)
    directory = whole.begin(stage)
    keeps = [keep_everything(out, marker) for marker in download.parts]
    plan = list(plan_shards(keeps, seed=seed, config=config))
    shards = [write_shard(stage, s, directory, seed=seed, config=config) for s in plan]
    return whole.finish(stage, shards, [shard.name for shard in plan], directory)


def keep_everything(out: str, marker: Marker) -> KeepPart:
    rows = pq.read_table(fs.join(out, marker.files["parquet"].name))
    rows = rows.filter(pa.compute.is_null(rows["reason"]))
    captions = [said[0]["text"] for said in rows["captions"].to_pylist()]
    new = {
        "caption": pa.array(captions, pa.string()),
        "cluster_size": pa.repeat(pa.scalar(1, pa.int32()), len(rows)),
        "clip_score": pa.nulls(len(rows), pa.float32()),
        "raw_shard": pa.repeat(marker.files["tar"].name, len(rows)),
    }
    table = pa.table([new[f.name] if f.name in new else rows[f.name] for f in KEEP], schema=KEEP)
    path = f"select/part-{marker.unit}.parquet"
    Path(out, "select").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, fs.join(out, path), row_group_size=4)
    return KeepPart(str(marker.unit), path, len(table))


@pytest.fixture
def published(tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any) -> tuple[str, Published]:
    out = str(tmp_path / "out")
    return out, run_publish(out, make_raw(out, raw, raw_row))


def test_shards_hold_the_pictures_of_the_raw_tars(published: tuple[str, Published]) -> None:
    out, manifest = published
    raws = [m for path in fs.glob(f"{out}/raw/*.tar") for m in iter_members(path)]
    samples = [s for shard in list_shards(f"{out}/shards") for s in iter_samples(shard.path)]
    assert {s.key: s.image_bytes for s in samples} == {m.name.removesuffix(".jpg"): m.data for m in raws}
    assert len(samples) == len(raws) == manifest.samples == manifest.into == manifest.out == 48
    assert [m.samples for m in manifest.files if m.name.endswith(".tar")] == [7] * 6 + [6]
    for sample in samples:
        said = sample.metadata
        assert list(said)[: len(IMG2DATASET)] == IMG2DATASET
        assert (said["key"], said["caption"], said["status"]) == (sample.key, sample.caption, "success")


def test_the_parquet_has_a_row_a_sample_with_its_place_in_the_tar(published: tuple[str, Published]) -> None:
    out, _ = published
    for shard in list_shards(f"{out}/shards"):
        table = pq.read_table(shard.path.replace(".tar", ".parquet"))
        assert table.schema.names[: len(IMG2DATASET)] == IMG2DATASET
        samples = list(iter_samples(shard.path))
        assert table["key"].to_pylist() == [s.key for s in samples]
        for row, sample in zip(table.to_pylist(), samples, strict=True):
            assert fs.read_range(shard.path, row["image_offset"], row["image_size"]) == sample.image_bytes


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files open
def test_webdataset_reads_them_as_open_clip_does(published: tuple[str, Published]) -> None:
    out, manifest = published
    sizes = json.loads(Path(f"{out}/shards/sizes.json").read_bytes())
    shards = [f"{out}/shards/{name}" for name in sizes]
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=False).decode("pilrgb").rename(image="jpg;png;jpeg;webp", text="txt")
    )
    read = list(dataset.to_tuple("image", "text", "json", "__key__"))
    assert len(read) == sum(sizes.values()) == manifest.samples
    assert all(picture.size == (said["width"], said["height"]) for picture, _, said, _ in read)
    assert all((text, key) == (said["caption"], said["key"]) for _, text, said, key in read)


def contents(directory: str) -> dict[str, bytes]:
    return {name: fs.read_bytes(f"{directory}/{name}") for name in fs.list_dir(directory)}


def test_two_builds_and_a_resumed_one_give_the_same_bytes(
    published: tuple[str, Published], tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any
) -> None:
    out, manifest = published
    first = contents(f"{out}/shards")
    other = str(tmp_path / "other")
    run_publish(other, make_raw(other, raw, raw_row))
    assert contents(f"{other}/shards") == first
    for name in ("MANIFEST.json", "sizes.json", "00002_stats.json", "00003.tar", "00003_stats.json"):
        fs.remove(f"{other}/shards/{name}")
    fs.write_bytes(f"{other}/shards/00009.tar", b"of an earlier, larger set")
    untouched = Path(f"{other}/shards/00001.tar").stat().st_mtime_ns
    run_publish(other, make_raw(other, raw, raw_row))
    assert contents(f"{other}/shards") == first
    assert Path(f"{other}/shards/00001.tar").stat().st_mtime_ns == untouched


def publish_anew(out: str, download: Manifest, fingerprint: str = "0" * 32, *, shards: int | None = None) -> None:
    """Publishes under other settings, or only the first shards of that."""
    stage = StageDir(out, "publish", fingerprint)
    directory = whole.begin(stage)
    plan = list(plan_shards([keep_everything(out, m) for m in download.parts], seed=2, config=SMALL))
    made = [write_shard(stage, s, directory, seed=2, config=SMALL) for s in plan[:shards]]
    whole.finish(stage, made, [shard.name for shard in plan], directory)


def test_a_published_set_stands_whole_until_the_one_of_other_settings_takes_its_place(
    published: tuple[str, Published], raw: Callable[..., Manifest], raw_row: Any
) -> None:
    out, manifest = published
    fs.write_bytes(f"{out}/shards/removed.txt", b"0" * 64)
    first, download = contents(f"{out}/shards"), make_raw(out, raw, raw_row)
    with pytest.raises(Stopped, match="4 of the 7 units of publish"):
        publish_anew(out, download, shards=3)
    assert contents(f"{out}/shards") == first
    publish_anew(out, download)
    assert read_manifest(out, "publish").fingerprint == "0" * 32
    again = contents(f"{out}/shards")
    assert again["removed.txt"] == first["removed.txt"] and again["00000.tar"] != first["00000.tar"]
    keys = [s.key for shard in list_shards(f"{out}/shards") for s in iter_samples(shard.path)]
    assert len(set(keys)) == 48 and not fs.exists(f"{out}/_shards")


def test_killed_at_any_step_of_the_exchange_there_is_a_whole_set_and_a_restart_has_the_new_one(
    published: tuple[str, Published], raw: Callable[..., Manifest], raw_row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = published
    download = make_raw(out, raw, raw_row)
    for step in ("copy", "exchange", "remove"):

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        Path(f"{out}/shards/removed.txt").write_bytes(b"0" * 64)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(whole.fs, step, killed)
            if step == "remove":  # the last thing of all
                whole.install(out)
            else:
                publish_anew(out, download, step.ljust(32))
        there = contents(f"{out}/shards")
        there.pop("removed.txt")
        manifest = json.loads(there["MANIFEST.json"])
        assert {entry["name"] for entry in manifest["files"]} | {"MANIFEST.json"} == set(there)
        Path(f"{out}/shards/removed.txt").unlink()
    publish_anew(out, download, "exchange".ljust(32))
    assert json.loads(contents(f"{out}/shards")["MANIFEST.json"])["fingerprint"].strip() == "exchange"
    assert not fs.exists(f"{out}/_shards")


def manifest_under(fingerprint: str, *names: str) -> Published:
    """Of a set without samples."""
    files = tuple(File(name, len(fingerprint + name)) for name in names)
    nothing: dict[str, Any] = {"into": 0, "out": 0, "dropped": {}, "shards": 0, "samples": 0, "files": files}
    return Published(stage="publish", fingerprint=fingerprint, schema_version=2, **nothing)


def test_on_an_object_store_a_set_that_is_half_copied_is_none_until_the_copy_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, old, new = "memory://half-copied", StageDir("memory://half-copied", "publish", "o"), {}
    for directory, mark in (("shards", "o"), ("_shards", "n")):
        new = {name: (mark + name).encode() for name in ("00000.tar", "00001.tar", "sizes.json")}
        new["MANIFEST.json"] = to_json(manifest_under(mark, *new))
        for name, data in new.items():
            fs.write_bytes(f"{out}/{directory}/{name}", data)
    stage, copy = StageDir(out, "publish", "n"), fs.copy

    def cut_off(path: str, to: str, **before: Any) -> None:
        if path.endswith("00001.tar"):
            raise KeyboardInterrupt
        copy(path, to, **before)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(whole.fs, "copy", cut_off)
        whole.install(out)
    assert old.manifest() is None and read_manifest(out, "publish") is None
    assert whole.begin(stage) == f"{out}/_shards"
    with pytest.raises(Stopped, match="1 of the 3 units of publish were not published"):
        whole.install(out, lambda copier, files: [copier(whole.Names(files[0].names[1:]))])  # as engines lose things
    assert old.manifest() is None and whole.begin(stage) == f"{out}/_shards"
    whole.install(out)
    assert contents(f"{out}/shards") == new and fs.list_dir(f"{out}/_shards") == []


def test_a_shard_of_which_a_file_is_gone_or_cut_off_is_made_again_and_no_other(
    published: tuple[str, Published], raw: Callable[..., Manifest], raw_row: Any
) -> None:
    out, _ = published
    first = contents(f"{out}/shards")
    Path(f"{out}/shards/00001.tar").unlink()
    Path(f"{out}/shards/00002.parquet").write_bytes(b"cut off")
    Path(f"{out}/shards/00003_stats.json").unlink()
    untouched = Path(f"{out}/shards/00004.tar").stat().st_mtime_ns
    run_publish(out, make_raw(out, raw, raw_row))
    assert contents(f"{out}/shards") == first
    assert Path(f"{out}/shards/00004.tar").stat().st_mtime_ns == untouched


def test_an_attempt_that_comes_late_leaves_alone_what_the_marker_names(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    download = make_raw(out, raw, raw_row)
    stage = StageDir(out, "publish", "f" * 32)
    keeps = [keep_everything(out, marker) for marker in download.parts]
    first, directory = next(iter(plan_shards(keeps, seed=1, config=SMALL))), whole.begin(stage)
    made: list[int] = []

    def overtaken(*given: Any) -> Any:
        monkeypatch.setattr("wit.publish.shard.write_tar", write_tar)
        write_shard(stage, first, directory, seed=1, config=SMALL)
        made.append(Path(directory, f"{first.name}.tar").stat().st_ino)
        return write_tar(*given)

    monkeypatch.setattr("wit.publish.shard.write_tar", overtaken)
    late = write_shard(stage, first, directory, seed=1, config=SMALL)
    assert late.count == first.samples and made == [Path(directory, f"{first.name}.tar").stat().st_ino]


def test_a_smaller_buffer_changes_the_order_but_not_the_members(
    published: tuple[str, Published], tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any
) -> None:
    out, _ = published
    other = str(tmp_path / "other")
    run_publish(other, make_raw(other, raw, raw_row), config=PublishConfig(7, 2, publish_buffer_mb=0.004))
    for one, two in zip(list_shards(f"{out}/shards"), list_shards(f"{other}/shards"), strict=True):
        assert {s.key: s.image_bytes for s in iter_samples(one.path)} == {
            s.key: s.image_bytes for s in iter_samples(two.path)
        }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 90)), min_size=1, max_size=20),
    st.integers(0, 120),
    st.randoms(),
)
def test_ranged_reads_fetch_exactly_what_is_wanted(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[str, int]], gap: int, random: Any
) -> None:
    out = tmp_path_factory.mktemp("ranges")
    content = {path: bytes(i % 251 for i in range(4000)) for path in "ab"}
    for path, data in content.items():
        (out / path).write_bytes(data)
    ends, rows = {"a": 0, "b": 0}, []
    for path, size in sizes:
        start = ends[path] + size % 7 * 10
        rows.append({"raw_shard": path, "tar_offset": start, "tar_size": size})
        ends[path] = start + size
    random.shuffle(rows)
    table = pa.Table.from_pylist(rows)
    with ThreadPoolExecutor(2) as readers:
        pictures = read_pictures(str(out), table, readers)
    assert [bytes(p) for p in pictures] == [
        content[r["raw_shard"]][r["tar_offset"] : r["tar_offset"] + r["tar_size"]] for r in rows
    ]
    reads = extents(table, gap=gap)
    for one, two in zip(reads, reads[1:], strict=False):
        assert one.path != two.path or two.start - one.stop > gap
