"""Damaged files: what is sound is read, what is lost is counted by name, and memory stays bounded."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from wit.sources.batch import SourceReport
from wit.sources.members import read_records


def record(number: int, *, newline: str = "\r\n", length: int | None = None, body: bytes | None = None) -> bytes:
    """A WARC record that says its number; by default each has another size."""
    body = body if body is not None else b"body %d " % number * (number + 1)
    lines = ["WARC/1.0", "WARC-Type: metadata", f"WARC-Record-ID: <{number}>"]
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    return newline.join(lines).encode() + body + (newline * 2).encode()


def read(data: bytes, **knobs: int) -> tuple[list[int], SourceReport]:
    """The numbers of the records found, and the report; every record found is checked to be whole."""
    report = SourceReport("file")
    numbers = []
    for found in read_records(io.BytesIO(data), report, **knobs):
        head = bytes(found.data[found.start : found.body])
        number = int(head.partition(b"WARC-Record-ID: <")[2].partition(b">")[0])
        assert bytes(found.data[found.body : found.end]) == b"body %d " % number * (number + 1)
        numbers.append(number)
    return numbers, report


MEMBERS = [gzip.compress(record(number), mtime=0) for number in range(6)]
WHOLE = b"".join(MEMBERS)
START = [sum(map(len, MEMBERS[:number])) for number in range(7)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(WHOLE, id="a member a record"),
        pytest.param(gzip.compress(b"".join(record(n) for n in range(6))), id="one member"),
        pytest.param(b"".join(record(n) for n in range(6)), id="not compressed"),
        pytest.param(b"".join(gzip.compress(record(n, newline="\n")) for n in range(6)), id="line feeds alone"),
        pytest.param(b"".join(record(n, newline="\n") for n in range(6)), id="line feeds alone, not compressed"),
        pytest.param(b"".join(gzip.compress(record(n), mtime=n) for n in range(6)), id="headers that differ"),
        pytest.param(b"".join(gzip.compress(record(n), 0) for n in range(6)), id="stored"),
        pytest.param(b"\0\0\0".join(MEMBERS) + b"\0" * 5000, id="padded with zeros"),
        pytest.param(MEMBERS[0] + gzip.compress(b"") + b"".join(MEMBERS[1:]), id="an empty member"),
    ],
)
def test_sound_files_are_read_whole(data: bytes) -> None:
    numbers, report = read(data)
    assert numbers == list(range(6))
    assert (report.records, report.lost, report.error) == (6, {}, None)
    assert report.bytes == len(data)


def test_a_gzip_header_with_a_file_name_is_read() -> None:
    out = io.BytesIO()
    with gzip.GzipFile("name.warc", "wb", fileobj=out) as member:
        member.write(record(3))
    assert read(out.getvalue() + MEMBERS[4])[0] == [3, 4]


def test_offsets_are_those_of_the_members() -> None:
    records = list(read_records(io.BytesIO(WHOLE), SourceReport("file")))
    assert [found.offset for found in records] == START[:6]


def test_offsets_of_what_is_not_compressed_are_those_of_the_records() -> None:
    parts = [record(n) for n in range(6)]
    records = list(read_records(io.BytesIO(b"".join(parts)), SourceReport("file")))
    assert [found.offset for found in records] == [sum(map(len, parts[:n])) for n in range(6)]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


@pytest.mark.parametrize("place", ["header", "content", "checksum", "size"])
def test_a_damaged_member_costs_itself(place: str) -> None:
    at = {"header": START[2], "content": START[2] + 40, "checksum": START[3] - 8, "size": START[3] - 2}[place]
    numbers, report = read(flip(WHOLE, at))
    assert numbers == [0, 1, 3, 4, 5]
    assert report.lost == {"corrupt_member": 1}
    assert report.bytes_skipped >= 1


def test_equal_members_do_not_hide_a_damaged_one() -> None:
    member = gzip.compress(record(1), mtime=0)
    assert read(flip(member * 3, len(member) + 1))[1].lost == {"corrupt_member": 1}


def test_two_damaged_members_in_a_row_are_counted_and_the_rest_is_read() -> None:
    numbers, report = read(flip(flip(WHOLE, START[2] + 60), START[3] + 60))
    assert numbers == [0, 1, 4, 5]
    assert report.lost == {"corrupt_member": 2}


def test_the_first_member_may_be_the_damaged_one() -> None:
    numbers, report = read(flip(WHOLE, 0))
    assert numbers == [1, 2, 3, 4, 5]
    assert report.lost == {"corrupt_member": 1}


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_large_members_across_blocks_are_resynchronised(step: int) -> None:
    draw = Random(1)
    parts = [record(n, body=draw.randbytes(150_000)) for n in range(12)]
    data = bytearray(b"".join(gzip.compress(part, 1, mtime=0) for part in parts))
    at = data.index(gzip.compress(parts[5], 1, mtime=0)) + 20
    data[at : at + step] = b"\x1f\x8b\x08" * (step // 3) + b"?" * (step % 3)
    report = SourceReport("file")
    found = list(read_records(io.BytesIO(bytes(data)), report))
    assert [bytes(f.data) for f in found] == parts[:5] + parts[6:]
    assert report.lost == {"corrupt_member": 1}


@pytest.mark.parametrize("cut", [1, 8, 30])
def test_a_truncated_file_keeps_what_came_before(cut: int) -> None:
    numbers, report = read(WHOLE[:-cut])
    assert numbers == [0, 1, 2, 3, 4]
    assert report.lost == {"truncated_member": 1}


def test_damage_in_one_large_member_keeps_the_records_before_it() -> None:
    data = gzip.compress(b"".join(record(n, body=None) for n in range(400)))
    numbers, report = read(data[: len(data) // 2] + MEMBERS[1])
    assert numbers[:10] == list(range(10)) and numbers[-1] == 1 and len(numbers) < 400
    assert sum(report.lost.values()) == 1


def test_a_truncated_file_without_compression_loses_its_last_record() -> None:
    numbers, report = read(b"".join(record(n) for n in range(6))[:-12])
    assert numbers == [0, 1, 2, 3, 4]
    assert report.lost == {"truncated_record": 1}


@pytest.mark.parametrize("length", [0, 3, 10_000, 10**15])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_wrong_length_costs_nothing(length: int, compressed: bool) -> None:
    parts = [record(0), record(1), record(2, length=length), record(3), record(4)]
    data = b"".join(gzip.compress(part) for part in parts) if compressed else b"".join(parts)
    numbers, report = read(data)
    assert numbers == [0, 1, 2, 3, 4]
    assert report.repaired == {"wrong_length": 1}
    assert report.lost == {}


@pytest.mark.parametrize("compressed", [True, False])
def test_an_oversized_record_is_skipped_by_name_within_bounded_memory(compressed: bool) -> None:
    large = record(1, body=b"x" * (50 << 20))
    parts = [record(0), large, record(2)]
    data = b"".join(gzip.compress(part, 1) for part in parts) if compressed else b"".join(parts)
    tracemalloc.start()
    numbers, report = read(data, max_record_bytes=4 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == [0, 2]
    assert report.lost == {"oversized_record": 1}
    assert peak < 40 << 20


def test_a_bomb_is_skipped_within_bounded_memory() -> None:
    bomb = zlib.compressobj(9, wbits=31)
    data = bomb.compress(record(0)[:60] + b"\0" * (100 << 20)) + bomb.flush()
    tracemalloc.start()
    numbers, report = read(data + MEMBERS[1], max_record_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == [1]
    assert sum(report.lost.values()) >= 1
    assert peak < 20 << 20


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"hello world", b"PK\x03\x04" * 100, gzip.compress(b"no record")])
def test_what_is_no_archive_is_said_to_be_none(data: bytes) -> None:
    numbers, report = read(data)
    assert numbers == []
    assert report.error or report.lost


RECORD_ENDS = [sum(len(record(n)) for n in range(count)) for count in range(7)]
FORMS = {
    "members": WHOLE,
    "one member": gzip.compress(b"".join(record(n) for n in range(6)), mtime=0),
    "plain": b"".join(record(n) for n in range(6)),
}


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(FORMS)),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_random_damage_never_crashes_and_never_hides_a_loss(form: str, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(FORMS[form])
    for at, bits in flips:
        damaged[at % len(damaged)] ^= bits
    report = SourceReport("file")
    found = list(read_records(io.BytesIO(bytes(damaged)), report))
    assert report.records == len(found)
    assert len(found) >= 6 or report.lost or report.error or report.repaired


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.integers(0, 3_000))
def test_a_cut_anywhere_never_crashes_and_never_hides_a_loss(form: str, cut: int) -> None:
    data = FORMS[form][:cut]
    report = SourceReport("file")
    found = list(read_records(io.BytesIO(data), report))
    ends = {size - blank for size in RECORD_ENDS for blank in range(5)} if form == "plain" else START
    at_the_end_of_a_record = cut in ends
    assert len(found) == 6 or at_the_end_of_a_record or report.lost or report.error


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"WARC/1.0\r\n", b"WARC/1.0\r\nContent-Length: 5\r\n\r\n"]),
)
def test_any_bytes_are_survived(noise: bytes, start: bytes) -> None:
    report = SourceReport("file")
    found = list(read_records(io.BytesIO(start + noise + WHOLE + noise), report))
    assert report.records == len(found)


ZSTD = zstandard.ZstdCompressor()
FRAMES = [ZSTD.compress(record(number)) for number in range(6)]
FRAME_START = [sum(map(len, FRAMES[:number])) for number in range(7)]


def skippable(content: bytes, kind: int = 0x5D) -> bytes:
    return bytes([kind]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


def with_dictionary(*, packed: bool) -> bytes:
    trained = zstandard.train_dictionary(512, [record(number % 6) + bytes([number]) for number in range(200)])
    compressor, content = zstandard.ZstdCompressor(dict_data=trained), trained.as_bytes()
    frames = b"".join(compressor.compress(record(number)) for number in range(6))
    return skippable(ZSTD.compress(content) if packed else content) + frames


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"".join(FRAMES), id="a frame a record"),
        pytest.param(ZSTD.compress(b"".join(record(n) for n in range(6))), id="one frame"),
        pytest.param(with_dictionary(packed=False), id="a dictionary"),
        pytest.param(with_dictionary(packed=True), id="a compressed dictionary"),
        pytest.param(skippable(b"said", 0x50).join(FRAMES), id="frames of something else between"),
    ],
)
def test_zstd_files_are_read_whole(data: bytes) -> None:
    numbers, report = read(data)
    assert numbers == list(range(6))
    assert (report.records, report.lost, report.error) == (6, {}, None)
    assert report.bytes == len(data)


def test_offsets_of_zstd_records_are_those_of_their_frames() -> None:
    records = list(read_records(io.BytesIO(b"".join(FRAMES)), SourceReport("file")))
    assert [found.offset for found in records] == FRAME_START[:6]


@pytest.mark.parametrize("number", range(6))
def test_a_damaged_frame_costs_itself(number: int) -> None:
    data = bytearray(b"".join(FRAMES))
    data[FRAME_START[number] + 4 : FRAME_START[number] + 8] = b"\xff" * 4
    numbers, report = read(bytes(data))
    assert numbers == [n for n in range(6) if n != number]
    assert report.lost == {"corrupt_member": 1}


def test_what_stands_between_frames_is_skipped_and_counted() -> None:
    numbers, report = read(FRAMES[0] + b"nonsense" * 100 + FRAMES[1])
    assert numbers == [0, 1]
    assert (report.lost, report.bytes_skipped) == ({"corrupt_member": 1}, 800)


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_zstd_file_that_is_cut_off_keeps_what_came_before(cut: int) -> None:
    numbers, report = read(b"".join(FRAMES)[:-cut])
    assert numbers == list(range(5))
    assert report.lost == {"truncated_member": 1}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 255)), min_size=1, max_size=4))
def test_random_damage_of_zstd_is_survived(flips: list[tuple[int, int]]) -> None:
    data = bytearray(with_dictionary(packed=False))
    for at, bits in flips:
        data[at % len(data)] ^= bits
    list(read_records(io.BytesIO(bytes(data)), SourceReport("file")))
