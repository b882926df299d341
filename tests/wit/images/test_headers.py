"""What a header says, and what is no header."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import KEPT, chunk, done, encoded, scene
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from wit.images.config import ImageConfig
from wit.images.headers import (
    MAX_ICC_BYTES,
    bare_jpeg,
    bare_png,
    exif_number,
    orientation_of,
    png_icc,
    png_tags,
    probe,
    refused_by,
    sniff,
)
from wit.images.process import process
from wit.images.results import Probe, Refused
from wit.reasons import Reason


def test_orientation_of_a_png_is_found_wherever_it_stands() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(scene(), "PNG", exif=exif)
    begin, end = data.index(b"eXIf") - 4, data.rindex(b"IEND") - 4
    tag = data[begin : begin + 12 + int.from_bytes(data[begin : begin + 4], "big")]
    behind = data[:begin] + data[begin + len(tag) : end] + tag + data[end:]
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    for png in (data, behind, encoded(scene(), "PNG", pnginfo=xmp)):
        assert (done(png).original_width, done(png).original_height) == (480, 640)


BOXES = {  # MIAF section 7.3.6.7 and HEIF sections 6.5.10, 6.5.12: quarter turns anti-clockwise, and the axis of a mirror
    2: [b"imir\x01"],
    3: [b"irot\x02"],
    4: [b"imir\x00"],
    6: [b"irot\x03"],
    8: [b"irot\x01"],
}


@pytest.mark.parametrize("orientation, boxes", BOXES.items())
def test_pillow_writes_the_boxes_that_the_avif_tests_rely_on(orientation: int, boxes: list[bytes]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), "AVIF", exif=exif)
    assert all(box in data for box in boxes)


def test_the_profile_of_a_png_still_counts() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert png_icc(encoded(scene(), "PNG", icc_profile=profile)) == profile


@pytest.mark.parametrize("marker, bits", [(0xC3, 8), (0xC1, 12), (0xC0, 12), (0xC7, 8), (0xCB, 8)])
def test_jpegs_that_no_browser_shows_are_unsupported_and_not_corrupt(marker: int, bits: int) -> None:
    data = bytearray(KEPT["baseline"])
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    result = process(bytes(data), ImageConfig())
    assert isinstance(result, Refused) and result.reason is Reason.FORMAT_UNSUPPORTED


@pytest.mark.parametrize(
    "data, found",
    [
        (b"\xff\xd8\xff", "jpg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"RIFF....WEBP", "webp"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"II+\0", "tiff"),
        (b"MM\0+", "tiff"),
        (b"....ftypavif", "avif"),
        (b"....ftypavis", "avif"),
        (b"\0\0\0\x18ftypmif1....mif1avif", "avif"),
        (b"\0\0\0\x14ftypmif1....avif", "avif"),
        (b"BM" + bytes(25), "bmp"),
    ],
)
def test_a_format_is_known_by_its_first_bytes(data: bytes, found: str) -> None:
    assert sniff(data) == found


def unsupported(name: str) -> Refused:
    return Refused(Reason.FORMAT_UNSUPPORTED, name)


NONE = Refused(Reason.NOT_AN_IMAGE)
MARKUP = Refused(Reason.NOT_AN_IMAGE, "markup")
DRAWN = Refused(Reason.SVG_REFUSED)


@pytest.mark.parametrize(
    "data, refused",
    [
        (b"", NONE),
        (b"\xff\xd8", NONE),
        (b"\x89PNG\r\n\x1a", NONE),
        (b"RIFF....WAVE", NONE),
        (b"....WEBP", NONE),
        (b"GIF88a", NONE),
        (b"BM" + bytes(24), NONE),
        (b"BMW is a maker of cars", NONE),
        (b"\0\0\0\x18ftypisom....isommp42", NONE),
        (b"\0\0\0\x14ftypisom....isomavif", NONE),  # behind the box
        (b"\0\0\0\xf0ftypisom....".ljust(64, b".") + b"avif", NONE),  # in a box longer than any
        *((b"\0\0\0\x18ftyp" + brand + b"........", unsupported("heic")) for brand in (b"heic", b"heix", b"hevc")),
        *((b"\0\0\0\x18ftyp" + brand + b"........", unsupported("heic")) for brand in (b"heim", b"heis", b"msf1")),
        (b"\0\0\0\x18ftypisom....mif1....", unsupported("heic")),
        (b"\0\0\1\0", unsupported("ico")),
        (b"\0\0\2\0", unsupported("cur")),
        (b"8BPS", unsupported("psd")),
        (b"\xff\x0a", unsupported("jxl")),
        (b"\0\0\0\x0cJXL ", unsupported("jxl")),
        (b"\0\0\0\x0cjP  ", unsupported("jp2")),
        (b"\xff\x4f\xff\x51", unsupported("jp2")),
        (b"%PDF-1.7", unsupported("pdf")),
        (b"\xd7\xcd\xc6\x9a", unsupported("wmf")),
        (b".8BPS", NONE),
        (b"\x1f\x8b\x08", Refused(Reason.NOT_AN_IMAGE, "gzip")),
        (b"<svg>", DRAWN),
        (b"\xef\xbb\xbf \n<?xml version='1.0'?><SVG width='9'>", DRAWN),
        (b"<!doctype svg PUBLIC>", DRAWN),
        (b" " * 1_019 + b"<svg>", DRAWN),
        (b" " * 1_020 + b"<svg>", NONE),  # beyond what is looked at
        (b"<svgs>", MARKUP),
        (b"\xef\xbb\xbf\r\n <!DOCTYPE html>", MARKUP),
        *(
            (begin, MARKUP)
            for begin in (b"<html>", b"<HEAD>", b"<body", b"<?xml ", b"<!-- x", b"<script>", b"<p>", b"<a href")
        ),
        *((begin, MARKUP) for begin in (b'{"error": 404}', b"[]")),
        (b"Not found", NONE),
        (b"text <html>", NONE),
    ],
    ids=repr,
)
def test_what_is_no_picture_that_we_take_says_what_it_is(data: bytes, refused: Refused) -> None:
    assert sniff(data) == probe(data) == refused


@given(
    st.binary(max_size=100),
    st.sampled_from([b"", b"\0\0\0\x40ftyp", b"RIFF", b"BM", b"\xef\xbb\xbf<", b"\xff\xd8\xff"]),
)
def test_any_bytes_have_an_answer(tail: bytes, head: bytes) -> None:
    assert isinstance(probe(head + tail), Probe | Refused)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("size", [(1, 1), (1, 16_383), (16_383, 1), (257, 259)])
@pytest.mark.parametrize("lossless", [True, False])
def test_the_size_of_a_plain_webp_is_pillows(size: tuple[int, int], lossless: bool) -> None:
    data = encoded(Image.new("RGB", size), "WEBP", lossless=lossless)
    assert probe(data) == Probe("webp", *size)
    assert Image.open(io.BytesIO(data)).size == size


def test_bits_beside_the_size_of_a_webp_are_no_part_of_it() -> None:
    """Those above 14 ask for scaling, which nobody does; of lossless ones one says that there is alpha."""
    lossy = bytearray(encoded(scene(300, 200), "WEBP"))
    lossy[27], lossy[29] = lossy[27] | 0x40, lossy[29] | 0x80
    assert probe(bytes(lossy)) == Probe("webp", 300, 200)
    glass = scene(300, 200)
    glass.putalpha(glass.convert("L"))
    assert probe(encoded(glass, "WEBP", lossless=True)) == Probe("webp", 300, 200, extended=True)


@pytest.mark.parametrize("size", [(0, 9), (9, 0)])
def test_a_webp_without_a_size_is_no_picture(size: tuple[int, int]) -> None:
    stream = b"\x30\1\0\x9d\x01\x2a" + struct.pack("<HH", *size) + bytes(20)
    found = probe(riff((b"VP8 ", stream)))
    assert isinstance(found, Refused) and found.reason is Reason.IMAGE_CORRUPT


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_webp_shorter_than_it_says_is_cut(lacking: int) -> None:
    data = encoded(scene(30, 20), "WEBP")
    assert (probe(data[: len(data) - lacking]) == Refused(Reason.IMAGE_TRUNCATED)) == bool(lacking)


EXIF_6, EXIF_3 = (b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + bytes((n, 0, 0, 0)) + bytes(4) for n in (6, 3))
XMP_8 = b'<x tiff:Orientation="8"/>'
CANVAS = (299).to_bytes(3, "little") + (70_000 - 1).to_bytes(3, "little")


@pytest.mark.parametrize(
    "flags, chunks, frames, orientation, extended",
    [
        (0, [], 1, 1, False),
        (0, [(b"EXIF", EXIF_6)], 1, 6, False),
        (0, [(b"EXIF", b"Exif\0\0" + EXIF_6)], 1, 6, False),
        (0, [(b"EXIF", EXIF_6), (b"EXIF", EXIF_3)], 1, 6, False),
        (0, [(b"XMP ", XMP_8)], 1, 8, False),
        (0, [(b"EXIF", EXIF_6), (b"XMP ", XMP_8)], 1, 6, False),
        (0, [(b"ODD ", EXIF_6)], 1, 1, False),
        (0x10, [], 1, 1, True),
        (0x20, [], 1, 1, True),
        (0x2C, [], 1, 1, True),
        (0x0C, [], 1, 1, False),
        (0x02, [(b"ANMF", b"1"), (b"ANMF", b"22"), (b"EXIF", EXIF_6), (b"ANMF", b"3")], 3, 6, True),
        (0x02, [], 1, 1, True),
        (0x00, [(b"ANMF", b"1")] * 2, 1, 1, False),
    ],
)
def test_an_extended_webp_says_its_canvas_frames_and_orientation(
    flags: int, chunks: list[tuple[bytes, bytes]], frames: int, orientation: int, extended: bool
) -> None:
    data = riff((b"VP8X", bytes((flags, 0, 0, 0)) + CANVAS), *chunks)
    assert probe(data) == Probe("webp", 300, 70_000, frames, orientation, extended=extended)


def segment(marker: int, body: bytes = b"") -> bytes:
    return b"\xff" + bytes((marker,)) + (len(body) + 2).to_bytes(2, "big") + body


JPEG = encoded(scene(200, 150), "JPEG")
FIRST = JPEG.index(b"\xff\xdb")  # behind JFIF
PIXELS = JPEG.index(b"\xff\xda")
PLAIN = probe(JPEG)


@pytest.mark.parametrize(
    "beside",
    [
        b"",
        b"\xff",
        b"\xff" * 9,
        b"\xff\x01",
        *(b"\xff" + bytes((marker,)) for marker in range(0xD0, 0xD9)),
        b"\xff\xe5\0\0",  # shorter than a length is
        b"\xff\xe5\0\2",
        segment(0xC4, JPEG[JPEG.index(b"\xff\xc4") + 4 :][:29]),
        segment(0xC8, b"\x08\0\1\0\1\1"),
        segment(0xCC, b"\0\1"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP_8),  # of a JPEG EXIF alone counts
        segment(0xE2, b"MPF\0" + bytes(40)),
        segment(0xFE, b"\xff\xc0 said in a comment"),
    ],
    ids=repr,
)
def test_what_stands_before_the_frame_header_is_passed_over(beside: bytes) -> None:
    assert probe(JPEG[:FIRST] + beside + JPEG[FIRST:]) == PLAIN == Probe("jpg", 200, 150, icc=b"")


def test_exif_and_the_pieces_of_a_profile_are_collected() -> None:
    exif = segment(0xE1, b"Exif\0\0" + EXIF_6), segment(0xE1, b"Exif\0\0" + EXIF_3)
    icc = segment(0xE2, b"ICC_PROFILE\0\1\2one"), segment(0xE2, b"ICC_PROFILE\0\2\2two")
    found = probe(JPEG[:FIRST] + b"".join((*exif, *icc)) + JPEG[FIRST:])
    assert found == Probe("jpg", 200, 150, 1, 6, icc=b"onetwo", exif=EXIF_6)


@pytest.mark.parametrize(
    "data, refused",
    [
        (JPEG[:3], Refused(Reason.IMAGE_TRUNCATED, "no frame header")),
        (JPEG[:FIRST], Refused(Reason.IMAGE_TRUNCATED, "no frame header")),
        (JPEG[:FIRST] + b"astray" + JPEG[FIRST:], Refused(Reason.IMAGE_CORRUPT, "no marker where one must be")),
        (JPEG[:FIRST] + JPEG[PIXELS:], Refused(Reason.IMAGE_CORRUPT, "pixels before the frame header")),
        (JPEG[:FIRST] + b"\xff\xd9" + bytes(9), Refused(Reason.IMAGE_CORRUPT, "pixels before the frame header")),
        (JPEG[: JPEG.index(b"\xff\xc0") + 9], Refused(Reason.IMAGE_TRUNCATED, "no frame header")),
        (JPEG[:2] + segment(0xE5) * 19_990 + JPEG[2:], PLAIN),
        (
            JPEG[:2] + segment(0xE5) * 20_000 + JPEG[2:],
            Refused(Reason.IMAGE_TOO_MANY_PARTS, "more than 20000 segments"),
        ),
    ],
)
def test_a_jpeg_without_a_frame_header_where_it_must_be_is_none(data: bytes, refused: Refused) -> None:
    assert probe(data) == refused


def framed(at: int, *values: int) -> bytes:
    data = bytearray(JPEG)
    frame = data.index(b"\xff\xc0")
    data[frame + at : frame + at + len(values)] = values
    return bytes(data)


@pytest.mark.parametrize(
    "data, refused",
    [
        (framed(5, 0, 0), Refused(Reason.IMAGE_CORRUPT, "no size")),
        (framed(7, 0, 0), Refused(Reason.IMAGE_CORRUPT, "no size")),
        (framed(9, 2), Refused(Reason.FORMAT_UNSUPPORTED, "JPEG of 2 components")),
        (framed(4, 12), Refused(Reason.FORMAT_UNSUPPORTED, "JPEG of 12 bits, frame 0xc0")),
        (framed(1, 0xC3), Refused(Reason.FORMAT_UNSUPPORTED, "JPEG of 8 bits, frame 0xc3")),
        (framed(5, 1, 0, 2, 1), Probe("jpg", 513, 256)),
        (framed(1, 0xC1), Probe("jpg", 200, 150)),
        *((framed(1, marker), Probe("jpg", 200, 150, passes=True)) for marker in (0xC2, 0xC9, 0xCA)),
    ],
)
def test_a_frame_header_says_size_colours_and_passes(data: bytes, refused: Refused | Probe) -> None:
    assert probe(data) == refused


@pytest.mark.parametrize("mode, components", [("L", 1), ("RGB", 3), ("CMYK", 4)])
@pytest.mark.parametrize("progressive", [True, False])
def test_components_and_passes_are_those_that_were_written(mode: str, components: int, progressive: bool) -> None:
    found = probe(encoded(scene(40, 30).convert(mode), "JPEG", progressive=progressive))
    assert isinstance(found, Probe)
    assert (found.size, found.components, found.passes) == ((40, 30), components, progressive)


@pytest.mark.parametrize("more, many", [(0, False), (100, True)])
def test_a_picture_of_too_many_passes_is_refused(more: int, many: bool) -> None:
    data = encoded(scene(40, 30), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    found = probe(data[:-2] + last * more + data[-2:])
    assert (isinstance(found, Refused) and found.reason is Reason.IMAGE_TOO_MANY_PARTS) == many


ALONE = [b"", *(b"\xff" + bytes((marker,)) for marker in (0x01, 0xD0, 0xD7, 0xD8))]


@pytest.mark.parametrize("alone", [*ALONE, *(segment(marker, b"\0" * 20) for marker in (0xC4, 0xC8, 0xCC, 0xDB))])
def test_a_bare_jpeg_has_what_tells_its_pixels_and_nothing_of_applications(alone: bytes) -> None:
    """Neither EXIF nor comments, but JFIF and Adobe, which tell its colours."""
    kept = JPEG[2:FIRST] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\1") + alone
    gone = (
        b"".join(segment(marker, b"a") for marker in (*range(0xE1, 0xEE), 0xEF, 0xFE)) + segment(0xE3) + b"\xff\xe4\0\0"
    )
    data = JPEG[:2] + gone + kept + b"\xff\xff" + gone + JPEG[FIRST:]
    assert bare_jpeg(data).replace(b"\xff" * 3, b"\xff") == JPEG[:2] + kept + JPEG[FIRST:]
    behind = JPEG[:PIXELS] + segment(0xE1, b"behind") + JPEG[PIXELS:]
    assert bare_jpeg(behind) == behind, "behind the frame header nobody looks"


PNG = KEPT["png"]
TEXT = chunk(b"tEXt", b"Comment\0said")
GAMMA = chunk(b"gAMA", (45_455).to_bytes(4, "big"))


def test_a_bare_png_has_its_pixels_and_what_tells_their_colours() -> None:
    icc = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"profile"))
    gone = [
        TEXT,
        chunk(b"zTXt", b"t\0\0" + zlib.compress(b"x")),
        chunk(b"iTXt", b"t\0\0\0\0\0x"),
        chunk(b"eXIf", EXIF_6),
        icc,
    ]
    assert bare_png(PNG[:33] + GAMMA + PNG[33:]) == PNG[:33] + GAMMA + PNG[33:]
    for one in gone:
        assert bare_png(PNG[:33] + one + GAMMA + PNG[33:]) == PNG[:33] + GAMMA + PNG[33:]
    assert bare_png(PNG[:33] + b"".join(gone) + PNG[33:-12] + TEXT + PNG[-12:]) == PNG


@pytest.mark.parametrize("size, found", [(MAX_ICC_BYTES, True), (MAX_ICC_BYTES + 1, False)])
def test_a_profile_is_looked_at_up_to_four_megabytes(size: int, found: bool) -> None:
    data = PNG[:33] + chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(size))) + PNG[33:]
    assert len(png_icc(data)) == (size if found else 0)


@pytest.mark.parametrize(
    "name, found", [(b"p" * 79, True), (b"p" * 80, False), (b"", True)]
)  # specification: 1 to 79 bytes, which nobody who reads them insists on
def test_the_name_of_a_profile_is_no_longer_than_the_specification_has_it(name: bytes, found: bool) -> None:
    data = PNG[:33] + chunk(b"iCCP", name + b"\0\0" + zlib.compress(b"profile")) + PNG[33:]
    assert png_icc(data) == (b"profile" if found else b"")


def test_a_profile_stands_before_the_pixels_of_a_png_or_not_at_all() -> None:
    icc = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"profile"))
    assert png_icc(PNG[:-12] + icc + PNG[-12:]) == b"" == png_icc(PNG)
    assert png_icc(PNG[:33] + chunk(b"iCCP", b"p\0\0no zlib") + PNG[33:]) == b""
    assert png_icc(PNG[:33] + GAMMA + icc + PNG[33:]) == b"profile"


@pytest.mark.parametrize(
    "xmp, orientation",
    [
        (b'<x tiff:Orientation="6"/>', 6),
        (b"<tiff:Orientation>3</tiff:Orientation>", 3),
        (b'<x tiff:Orientation="0"/>', 1),
        (b'<x tiff:Orientation="9"/>', 1),
        (b'<x tiff:Orientation="1"/>', 1),
        (b'<x tiff:Orientation="8"/>', 8),
        (b"", 1),
        (b"tiff:Orientation", 1),
    ],
)
def test_orientation_of_xmp_counts_where_exif_has_none(xmp: bytes, orientation: int) -> None:
    assert orientation_of(b"", xmp) == orientation
    assert orientation_of(EXIF_3, xmp) == 3


def block(order: str, entries: list[tuple[int, int, int]], *, count: int | None = None, start: int = 8) -> bytes:
    """A TIFF block with one directory of (tag, type, value)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    forms = {3: "HHIHxx"}
    rows = [struct.pack(order + forms.get(kind, "HHII"), tag, kind, 1, value) for tag, kind, value in entries]
    directory = struct.pack(order + "H", len(rows) if count is None else count) + b"".join(rows)
    return mark + struct.pack(order + "I", start) + bytes(start - 8) + directory


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("start", [8, 20])
@pytest.mark.parametrize("kind, value", [(3, 6), (3, 65_535), (4, 70_000)])
def test_a_tag_of_one_number_is_read_in_either_order_of_bytes(order: str, start: int, kind: int, value: int) -> None:
    data = block(order, [(0x10F, 4, 1), (0x112, kind, value), (0x112, 3, 9)], start=start)
    assert exif_number(data, 0x112) == exif_number(b"Exif\0\0" + data, 0x112) == value
    assert exif_number(data, 0x113) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0\x08\0\0\0\0\0",
        b"XX" + block("<", [(0x112, 3, 6)])[2:],
        block("<", [(0x112, 2, 6)]),  # a text
        block("<", [(0x10F, 3, 6), (0x112, 3, 6)], count=1),  # behind the directory
        block("<", [(0x112, 3, 6)], count=0),
        block("<", [(0x112, 3, 6)])[:-1],
        b"II*\0\xff\xff\xff\xff" + bytes(20),
        b"II*\0\x13\0\0\0" + bytes(12),  # of whose count there is one byte
    ],
)
def test_what_holds_no_number_says_none(data: bytes) -> None:
    assert exif_number(data, 0x112) is None and orientation_of(data) == 1


def test_a_directory_of_more_tags_than_there_are_is_read_to_its_end() -> None:
    assert exif_number(block("<", [(0x10F, 3, 1), (0x112, 3, 6)], count=9_999), 0x112) == 6
    assert exif_number(block("<", [(0x10F, 3, 1)], count=9_999), 0x112) is None


RAW = "\nexif\n      34\n" + "\n".join(EXIF_6.hex()[at : at + 36] for at in (0, 36))


def tagged(*texts: tuple[str, str], before: bytes = b"", behind: bytes = b"") -> bytes:
    info = PngInfo()
    for key, value in texts:
        if key.startswith("Raw"):
            info.add_text(key, value, zip=True)
        else:
            info.add_itxt(key, value, zip=True)
    data = encoded(scene(20, 10), "PNG", pnginfo=info)
    return data[:33] + before + data[33:-12] + behind + data[-12:]


@pytest.mark.parametrize(
    "data, tags",
    [
        (tagged(), (b"", b"")),
        (tagged(before=chunk(b"eXIf", EXIF_6)), (EXIF_6, b"")),
        (tagged(behind=chunk(b"eXIf", EXIF_6)), (EXIF_6, b"")),
        (tagged(before=chunk(b"eXIf", EXIF_6), behind=chunk(b"eXIf", EXIF_3)), (EXIF_6, b"")),
        (tagged(("Raw profile type exif", RAW)), (EXIF_6, b"")),
        (tagged(("Raw profile type exif", RAW), behind=chunk(b"eXIf", EXIF_3)), (EXIF_3, b"")),
        (tagged(("Raw profile type exif", "\nexif\n 9\nno hexadecimals")), (b"", b"")),
        (tagged(("XML:com.adobe.xmp", "<é/>")), (b"", "<é/>".encode())),
        (tagged(("XML:com.adobe.xmp", "<a/>"), ("XML:com.adobe.xmp", "<b/>")), (b"", b"<a/>")),
        (tagged(("XML:com.adobe.xmp", "<a/>"), ("Raw profile type exif", RAW)), (EXIF_6, b"<a/>")),
        (tagged(("XML:com.adobe.xmp", "<a/>"), behind=chunk(b"eXIf", EXIF_3)), (EXIF_3, b"<a/>")),
        (tagged(("Comment", "XML:com.adobe.xmp")), (b"", b"")),
        (
            tagged(before=chunk(b"zTXt", b"Raw profile type exif\0\0no zlib"), behind=chunk(b"eXIf", EXIF_3)),
            (EXIF_3, b""),
        ),
    ],
)
def test_the_tags_of_a_png_are_found_before_and_behind_its_pixels(data: bytes, tags: tuple[bytes, bytes]) -> None:
    assert png_tags(data) == tags


@pytest.mark.parametrize("kind", ["GIF", "PNG", "AVIF", "WEBP"])
@pytest.mark.parametrize("frames", [1, 3])
def test_frames_are_counted_or_told_from_one(kind: str, frames: int) -> None:
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")][:frames]
    data = encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=100)
    found = probe(data)
    assert isinstance(found, Probe) and found.size == (20, 20)
    assert found.frames == (frames if kind != "GIF" else min(frames, 2))


def test_what_looks_like_frames_of_a_gif_in_another_format_is_none() -> None:
    data = encoded(scene(20, 20), "BMP")
    assert probe(data + b"\0\x21\xf9\x04" * 3) == Probe("bmp", 20, 20)


@pytest.mark.parametrize(
    "error, reason",
    [
        (MemoryError(), Reason.IMAGE_NEEDS_MEMORY),
        (EOFError("no more"), Reason.IMAGE_TRUNCATED),
        (OSError("Truncated File Read"), Reason.IMAGE_TRUNCATED),
        (OSError("image file is truncated (9 bytes not processed)"), Reason.IMAGE_TRUNCATED),
        (ValueError("Premature end"), Reason.IMAGE_TRUNCATED),
        (ValueError("not enough image data"), Reason.IMAGE_TRUNCATED),
        (OSError("broken data stream"), Reason.IMAGE_CORRUPT),
        (SyntaxError("broken PNG file"), Reason.IMAGE_CORRUPT),
    ],
)
def test_a_decoders_error_is_told_as_what_it_means(error: Exception, reason: Reason) -> None:
    assert refused_by(error) == Refused(reason)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_header_that_was_cut_is_refused(kind: str) -> None:
    data = encoded(scene(40, 30), kind)
    for size in (10, 14, 20, 27):
        found = probe(data[:size])
        assert isinstance(found, Refused) and found.reason in (
            Reason.IMAGE_CORRUPT,
            Reason.IMAGE_TRUNCATED,
            Reason.NOT_AN_IMAGE,
        )


def test_orientation_of_an_avif_is_that_of_its_boxes_and_a_tiff_is_turned_by_pillow() -> None:
    for kind, orientation in (("AVIF", 6), ("TIFF", 1)):
        exif = Image.Exif()
        exif[0x0112] = 6
        found = probe(encoded(scene(40, 30), kind, exif=exif))
        assert isinstance(found, Probe)
        assert (found.size, found.orientation) == ((30, 40), orientation), kind


@pytest.mark.parametrize("knob", ["deep", "palette", "webp", "png", "lossless"])
def test_what_the_header_says_is_what_pillow_says(knob: Any) -> None:
    found, opened = probe(KEPT[knob]), Image.open(io.BytesIO(KEPT[knob]))
    assert isinstance(found, Probe) and found.size == opened.size == np.asarray(opened).shape[1::-1]
