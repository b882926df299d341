import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from wit import shards
from wit.errors import InputError
from wit.shards import Sample, ShardWriter, iter_members, iter_samples, list_shards, tar_header

KEYS = [f"{i:032x}" for i in range(5)]


def write_tar(path: Path, count: int = 5) -> bytes:
    stream = io.BytesIO()
    writer = ShardWriter(stream)
    for i, key in enumerate(KEYS[:count]):
        writer.add(key, bytes([i]) * (i * 300), "jpg", f"caption é {i}", {"key": key, "sha256": f"{i:064x}"})
    writer.close()
    path.write_bytes(stream.getvalue())
    return stream.getvalue()


def write_set(directory: Path) -> str:
    write_tar(directory / "00000.tar")
    (directory / "sizes.json").write_text(json.dumps({"00000.tar": 5}))
    table = pa.table({"key": KEYS, "sha256": [f"{i:064x}" for i in range(5)], "status": ["success"] * 5})
    pq.write_table(table, directory / "00000.parquet")
    return str(directory)


@settings(max_examples=50)
@given(st.from_regex(r"[a-z0-9é_/.-]{0,48}[a-z]", fullmatch=True), st.integers(0, 8**11 - 1))
def test_tarfile_reads_the_header(name: str, size: int) -> None:
    info = tarfile.TarInfo.frombuf(tar_header(name, size), "utf-8", "strict")
    assert (info.name, info.size, info.mode, info.mtime, info.uid, info.uname) == (
        name.rstrip("/"),
        size,
        0o644,
        0,
        0,
        "",
    )


@pytest.mark.parametrize("name, size", [("x" * 101, 1), ("x.jpg", 8**11)])
def test_what_ustar_cannot_say_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="no room"):
        tar_header(name, size)


def test_a_shard_round_trips_and_its_bytes_depend_on_its_content_alone(tmp_path: Path) -> None:
    assert write_tar(tmp_path / "a.tar") == write_tar(tmp_path / "b.tar")
    samples = list(iter_samples(str(tmp_path / "a.tar")))
    assert samples[2] == Sample(KEYS[2], b"\2" * 600, "jpg", "caption é 2", {"key": KEYS[2], "sha256": f"{2:064x}"})
    assert [s.key for s in samples] == KEYS


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
def test_tarfile_and_webdataset_read_what_we_write(tmp_path: Path) -> None:
    data = write_tar(tmp_path / "00000.tar")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames()[:3] == [f"{KEYS[0]}.jpg", f"{KEYS[0]}.txt", f"{KEYS[0]}.json"]
    read = list(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False))
    assert [(s["__key__"], s["jpg"], s["txt"].decode()) for s in read] == [
        (s.key, s.image_bytes, s.caption) for s in iter_samples(str(tmp_path / "00000.tar"))
    ]


def test_offsets_lead_to_the_bytes(tmp_path: Path) -> None:
    data = write_tar(tmp_path / "00000.tar")
    for member in iter_members(str(tmp_path / "00000.tar")):
        assert data[member.offset : member.offset + len(member.data)] == member.data


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "d/" * 60])
def test_tars_of_other_writers_are_read(tmp_path: Path, tar_format: int, prefix: str) -> None:
    path = tmp_path / "foreign.tar"
    with tarfile.open(path, "w", format=tar_format) as tar:
        for extension in ("jpg", "txt"):
            info = tarfile.TarInfo(f"{prefix}0001.{extension}")
            info.size, info.mtime = 3, 1.5  # a fractional time makes a pax header
            tar.addfile(info, io.BytesIO(b"abc"))
    assert list(iter_samples(str(path))) == [Sample(f"{prefix}0001", b"abc", "jpg", "abc", {})]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_tar_gives_sound_samples_and_then_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "00000.tar"
    whole = write_tar(path)
    all_samples = list(iter_samples(str(path)))
    members = sum(512 + -(-len(m.data) // 512) * 512 for m in iter_members(str(path)))
    path.write_bytes(whole[: data.draw(st.integers(0, members + 511))])
    found = []
    with pytest.raises(InputError, match="cut off"):
        for sample in iter_samples(str(path)):
            found.append(sample)
    assert found == all_samples[: len(found)]


def test_a_flipped_header_byte_is_noticed(tmp_path: Path) -> None:
    data = bytearray(write_tar(tmp_path / "00000.tar"))
    data[3] ^= 1
    (tmp_path / "00000.tar").write_bytes(data)
    with pytest.raises(InputError, match=r"damaged \(no tar header at byte 0\): fetch or publish the shard again"):
        list(iter_samples(str(tmp_path / "00000.tar")))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_an_error_not_a_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.tar"
    path.write_bytes(data)
    if not data.startswith(bytes(512)):
        with pytest.raises(InputError):
            list(iter_members(str(path)))


def test_samples_without_picture_or_caption_are_skipped(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = ShardWriter(stream)
    for name in ("a.jpg", "b.txt", "c.jpg", "c.txt", "d.json"):
        writer.add_member(name, b"x")
    writer.close()
    (tmp_path / "0.tar").write_bytes(stream.getvalue())
    assert [s.key for s in iter_samples(str(tmp_path / "0.tar"))] == ["c"]


@pytest.mark.parametrize(
    "removed, left", [("", KEYS), (KEYS[1], [KEYS[0], *KEYS[2:]]), (f"{4:064x}\n{KEYS[0]}\n", KEYS[1:4])]
)
def test_tombstones_hide_samples_at_once(tmp_path: Path, removed: str, left: list[str]) -> None:
    directory = write_set(tmp_path)
    (tmp_path / shards.REMOVED).write_text(removed)
    (shard,) = list_shards(directory)
    assert [s.key for s in iter_samples(shard.path)] == left
    assert shard.samples == len(left)


def test_shards_of_img2dataset_are_listed_by_their_stats(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar")
    (tmp_path / "00000_stats.json").write_text(json.dumps({"count": 7, "successes": 5}))
    assert [(s.path, s.samples) for s in list_shards(str(tmp_path))] == [(str(tmp_path / "00000.tar"), 5)]


def test_a_directory_without_shards_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OUT/shards"):
        list_shards(str(tmp_path / "nothing"))


def write_members(path: Path, *members: tuple[str, bytes]) -> str:
    stream = io.BytesIO()
    writer = ShardWriter(stream)
    for name, data in members:
        writer.add_member(name, data)
    writer.close()
    path.write_bytes(stream.getvalue())
    return str(path)


@pytest.mark.parametrize(
    "text", [b"", b"{bad", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_key_json_that_is_no_object_costs_no_sample(tmp_path: Path, text: bytes) -> None:
    path = write_members(tmp_path / "0.tar", ("a.jpg", b"x"), ("a.txt", b"fox"), ("a.json", text))
    assert list(iter_samples(path)) == [Sample("a", b"x", "jpg", "fox", {}, readable=False)]


@pytest.mark.parametrize("tombstone", ["a", hashlib.sha256(b"x").hexdigest()])
def test_a_removed_sample_whose_json_is_broken_stays_removed(tmp_path: Path, tombstone: str) -> None:
    path = write_members(tmp_path / "0.tar", ("a.jpg", b"x"), ("a.txt", b"fox"), ("a.json", b"{"))
    (tmp_path / "removed.txt").write_text(tombstone + "\n")
    assert list(iter_samples(path)) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
def test_members_that_webdataset_takes_for_no_sample_are_ignored(tmp_path: Path) -> None:
    others = ["._a.jpg", "._a.txt", ".DS_Store", "__MACOSX/._a.jpg", "__meta__", "__x__/a.jpg", "README"]
    members = [(name, b"other") for name in others] + [("a.jpg", b"x"), ("._a.txt", b"other"), ("a.txt", b"fox")]
    path = write_members(tmp_path / "0.tar", *members)
    assert [(s.key, s.image_bytes, s.caption) for s in iter_samples(path)] == [("a", b"x", "fox")]
    read = list(webdataset.WebDataset(path, shardshuffle=False))
    whole = [(s["__key__"], s["jpg"], s["txt"]) for s in read if "txt" in s]  # it makes a sample of __MACOSX/._a.jpg
    assert whole == [("a", b"x", b"fox")]


def test_a_packed_tar_is_read_and_a_cut_one_noticed(tmp_path: Path) -> None:
    packed = gzip.compress(write_tar(tmp_path / "00000.tar"))
    (tmp_path / "00000.tar.gz").write_bytes(packed)
    (tmp_path / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    assert [s.key for s in iter_samples(str(tmp_path / "00000.tar.gz"))] == KEYS
    with pytest.raises(InputError, match="cut.tar.gz is damaged"):
        list(iter_samples(str(tmp_path / "cut.tar.gz")))
