from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from pictures import IEND, chunk, done, encoded, scene, told
from PIL import ExifTags, Image

from wit.images.exif import exif_json
from wit.images.headers import probe
from wit.images.results import Probe


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("keep_original", [True, False])
def test_exif_on_request(kind: str, keep_original: bool) -> None:
    data = encoded(scene(), kind, exif=told())
    found = {
        fields: done(data, exif=fields, keep_original=keep_original, perceptual_hashes=False).exif
        for fields in ("none", "technical", "all")
    }
    everything, technical = json.loads(found["all"] or ""), json.loads(found["technical"] or "")
    assert found["none"] is None
    exposure = {} if kind == "TIFF" else {"ExposureTime": "0.5"}  # Pillow writes no directory but the first into a TIFF
    expected = {"Make": "Camera", "Model": "One", **exposure}
    assert {name: technical.pop(name, None) for name in expected} == expected
    assert set(technical) <= {"Orientation", "XResolution", "YResolution", "ResolutionUnit"}
    private = {"Artist", "DateTime", *({"DateTimeOriginal", "BodySerialNumber", "GPSLatitude"} if exposure else ())}
    assert private <= set(everything) and "MakerNote" not in everything


def read(data: bytes, fields: Any = "all") -> dict[str, str] | None:
    """The column of a picture as it came."""
    found = probe(data)
    assert isinstance(found, Probe)
    text = exif_json(data, found, fields)
    return None if text is None else json.loads(text)


def exif_of(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[getattr(ExifTags.Base, name)] = value
    return exif


def png_with(block: bytes) -> bytes:
    plain = encoded(scene(20, 10), "PNG")
    return plain[: -len(IEND)] + chunk(b"eXIf", block) + IEND


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
def test_without_exif_there_is_no_column(kind: str) -> None:
    assert read(encoded(scene(20, 10), kind)) is None


@pytest.mark.parametrize("fields, names", [("all", {"Artist": "somebody"}), ("technical", None), ("none", None)])
def test_nothing_that_may_be_told_is_null_and_no_empty_object(fields: str, names: Any) -> None:
    assert read(encoded(scene(20, 10), "JPEG", exif=exif_of(Artist="somebody")), fields) == names


@pytest.mark.parametrize("chars, told_of", [(1_000, True), (1_001, False)])
def test_long_values_are_left_out_and_the_others_stay(chars: int, told_of: bool) -> None:
    data = encoded(scene(20, 10), "JPEG", exif=exif_of(Make="Camera", ImageDescription="x" * chars))
    assert set(read(data) or ()) == {"Make", *(["ImageDescription"] if told_of else [])}


def test_names_are_in_order_and_tags_without_a_name_go_by_their_number() -> None:
    exif = exif_of(Model="One", Artist="somebody", Make="Camera")
    exif[0xFE01] = "private"
    names = list(read(encoded(scene(20, 10), "JPEG", exif=exif)) or ())
    assert names == sorted(names) == [str(0xFE01), "Artist", "Make", "Model"]


@pytest.mark.parametrize("over", [0, 1])
def test_of_a_block_beyond_a_megabyte_nothing_is_read(over: int) -> None:
    block = exif_of(Make="Camera").tobytes().removeprefix(b"Exif\0\0")
    read_of_it = read(png_with(block.ljust((1 << 20) + over, b"\0")))
    assert read_of_it == (None if over else {"Make": "Camera"})


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_prefix_that_jpeg_has_may_stand_in_others_too(prefix: bytes) -> None:
    block = exif_of(Make="Camera").tobytes().removeprefix(b"Exif\0\0")
    assert read(png_with(prefix + block)) == {"Make": "Camera"}
    webp = io.BytesIO()
    scene(20, 10).save(webp, "WEBP", exif=prefix + block)
    assert read(webp.getvalue()) == {"Make": "Camera"}


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"II*\0\x08\0\0\0", b"no exif at all", b"MM\0*\xff\xff\xff\xff" + bytes(9)]
)
@pytest.mark.filterwarnings("ignore")  # as a decode process does
def test_broken_exif_is_none(block: bytes) -> None:
    assert read(png_with(block)) is None


@pytest.mark.parametrize("pointer", [None, 0x8769, 0x8825])
@pytest.mark.parametrize("tags, is_read", [(8, True), (80, False)])
def test_tags_that_share_their_values_are_not_copied_a_million_times(
    pointer: int | None, tags: int, is_read: bool
) -> None:
    """20,000 numbers each, all of the same 40 kB, in the first directory, that of the exposure or that of the place."""

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value)

    make = entry(0x010F, 2, 4, int.from_bytes(b"One\0", "little"))
    shared = [entry(0x9C00 + number, 3, 20_000, 100) for number in range(tags)]
    first = [make, *shared] if pointer is None else [make, entry(pointer, 4, 1, 8 + 2 + 2 * 12 + 4)]
    block = b"II*\0\x08\0\0\0" + b"".join(
        struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) for entries in (first, shared)
    )
    found = read(png_with(block + bytes(41_000)))
    assert found == ({"Make": "One"} if is_read else None)


def test_a_tiff_is_a_block_itself_however_large_it_is() -> None:
    data = encoded(scene(700, 600), "TIFF", exif=exif_of(Make="Camera"))
    assert len(data) > 1 << 20 and (read(data) or {})["Make"] == "Camera"
