"""Every mode of every format becomes the colours that a viewer sees."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import IEND, chunk, done, encoded, pixels, scene
from PIL import Image, ImageCms

from wit.images.config import ImageConfig
from wit.images.decode import _decode_plain, _decode_with_pillow, decode, flatten, jpeg_scale, to_srgb
from wit.images.headers import probe
from wit.images.process import process
from wit.images.results import Probe, Processed, Refused
from wit.reasons import Reason


def test_deep_gray_keeps_its_range() -> None:
    ramp = np.tile(np.linspace(0, 65535, 200).astype(np.uint16), (50, 1))
    stored = pixels(
        done(encoded(Image.fromarray(ramp), "PNG"), resize_mode="no", encode_format="png", encode_quality=6)
    )
    assert stored[0, 0, 0] == 0 and stored[0, -1, 0] == 255
    assert abs(stored[0, 100, 0] - 128) <= 2


@pytest.mark.parametrize(
    "kind, mode",
    [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA"), ("GIF", "P"), ("TIFF", "RGBA"), ("AVIF", "RGBA")],
)
@pytest.mark.parametrize("background", ["#ffffff", "#00ff00"])
def test_transparency_is_laid_on_paper(kind: str, mode: str, background: str) -> None:
    picture = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 32, 64))
    if mode == "P":
        palette = Image.new("P", (64, 64), 1)
        palette.putpalette([255, 0, 0, 9, 9, 9])
        palette.paste(0, (0, 0, 32, 64))
        data = encoded(palette, kind, transparency=1)
    else:
        data = encoded(picture.convert(mode), kind)
    stored = pixels(done(data, background=background, encode_format="png", encode_quality=6))
    paper = [int(background[i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(stored[32, 60] - paper).max() <= 3
    assert np.abs(stored[32, 4] - paper).max() > 50


def test_cmyk_is_converted() -> None:
    red = Image.new("CMYK", (80, 60), (0, 255, 255, 0))
    stored = pixels(done(encoded(red, "JPEG", quality=95)))
    assert np.abs(stored.mean((0, 1)) - (255, 0, 0)).max() < 12


def test_a_profile_that_is_not_srgb_is_applied() -> None:
    lab = ImageCms.createProfile("LAB")
    data = encoded(scene(), "JPEG", quality=95, icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    assert done(data).width == 341  # a profile of another mode is no reason to fail
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(
        pixels(done(encoded(scene(), "JPEG", quality=95, icc_profile=srgb))),
        pixels(done(encoded(scene(), "JPEG", quality=95))),
    )


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        assert pixels(done(data))[20, 20, 0] > 200
        found = probe(data)
        assert not isinstance(found, Refused) and found.frames > 1


def test_jpeg_is_scaled_by_powers_of_two_only() -> None:
    found = probe(encoded(scene(1600, 1200), "JPEG"))
    assert not isinstance(found, Refused)
    assert [jpeg_scale(found, side, side, 1) for side in (150, 151, 300, 600, 601, 5000)] == [8, 4, 4, 2, 1, 1]


def fast_kinds() -> dict[str, bytes]:
    small = scene().resize((61, 47))
    glass = small.copy()
    glass.putalpha(small.convert("L"))
    return {
        "png": encoded(small, "PNG"),
        "png with alpha": encoded(glass, "PNG"),
        "webp": encoded(small, "WEBP"),
        "lossless webp": encoded(small, "WEBP", lossless=True),
    }


FAST_KINDS = fast_kinds()


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(FAST_KINDS)),
    edits=st.lists(st.tuples(st.integers(12, 4000), st.binary(min_size=1, max_size=3)), max_size=2),
)
def test_what_the_fast_decoders_take_pillow_takes_and_sees_the_same(kind: str, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(FAST_KINDS[kind])
    for at, piece in edits:
        at %= len(data) - 16  # damage to what closes a PNG, behind its pixels, Pillow calls truncation
        data[at : at + len(piece)] = piece
    found = probe(bytes(data))
    if isinstance(found, Refused) or found.width * found.height > 1_000_000:
        return
    fast = _decode_plain(bytes(data), found, "#fff")
    if not edits:
        assert fast is not None
    if fast is not None:
        assert np.array_equal(fast, _decode_with_pillow(bytes(data), "#fff"))


def test_one_gray_of_sixteen_bits_may_be_transparent() -> None:
    gray = np.full((64, 64), 30_000, np.uint16)
    gray[16:48, 16:48] = 1_000
    data = encoded(Image.fromarray(gray), "PNG")
    data = data[:33] + chunk(b"tRNS", (1_000).to_bytes(2, "big")) + data[33:]
    result = pixels(done(data, encode_format="png", encode_quality=6, background="#ff0000"))
    assert result[32, 32].tolist() == [255, 0, 0]
    assert result[2, 2].tolist() == [117] * 3


@pytest.mark.parametrize("depth, key, shown", [(2, 1, 85), (4, 5, 85), (8, 85, 85)])
def test_a_gray_of_few_bits_may_be_transparent(depth: int, key: int, shown: int) -> None:
    """Half of the picture in the key's gray, half in white."""
    row = b"\0" + bytes([sum(key << shift for shift in range(0, 8, depth))]) * depth + b"\xff" * depth
    header = (16).to_bytes(4, "big") * 2 + bytes([depth, 0, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", key.to_bytes(2, "big"))
    data += chunk(b"IDAT", zlib.compress(row * 16)) + IEND
    seen = pixels(done(data, encode_format="png", encode_quality=6, background="#ff0000"))
    assert seen[8, 2].tolist() == [255, 0, 0]
    assert seen[8, 14].tolist() == [255] * 3


def test_a_colour_of_sixteen_bits_may_be_transparent() -> None:
    value = (0x1234).to_bytes(2, "big") * 3
    row = b"\0" + value * 8 + b"\xff\xff" * 3 * 8
    header = (16).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", value)
    data += chunk(b"IDAT", zlib.compress(row * 16)) + IEND
    seen = pixels(done(data, encode_format="png", encode_quality=6, background="#ff0000"))
    assert seen[8, 2].tolist() == [255, 0, 0]


def swapped_colours() -> bytes:
    """A profile by which what is called red is blue, and blue red."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = srgb.replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be"))
    return other.replace(b"rXYZ", b"last").replace(b"bXYZ", b"rXYZ").replace(b"last", b"bXYZ")


def gray_inks() -> bytes:
    """A profile by which every mixture of inks is the same gray: a table of two values for each ink (ICC.1 section 10.8)."""
    identity = struct.pack(">9i", *(65_536 * (n % 4 == 0) for n in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + bytes(range(256)) * 4 + b"\x80" * 48
    table += bytes(range(256)) * 3
    kinds = (b"test", 0x0240_0000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    head = struct.pack(">I4sI4s4s4s12x4s28x3i48x", 144 + len(table), *kinds, 0xF6D6, 0x1_0000, 0xD32D)
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def longer(profile: bytes, size: int) -> bytes:
    """The profile with zeros behind its tags."""
    return size.to_bytes(4, "big") + profile[4:].ljust(size - 4, b"\0")


SWAPPED, INKS = swapped_colours(), gray_inks()


PROFILED = [
    ("JPEG", "RGB"),
    ("PNG", "RGB"),
    ("PNG", "RGBA"),
    ("WEBP", "RGB"),
    ("WEBP", "RGBA"),
    ("TIFF", "RGB"),
    ("AVIF", "RGB"),
]


@pytest.mark.parametrize("kind, mode", PROFILED)
def test_colours_are_those_of_the_profile(kind: str, mode: str) -> None:
    red = encoded(Image.new(mode, (40, 30), (255, 0, 0)), kind, icc_profile=SWAPPED)
    assert np.abs(pixels(done(red, encode_format="png", encode_quality=6))[10, 10] - (0, 0, 255)).max() <= 6


@pytest.mark.parametrize(
    "size, counts", [(64 << 10, True), ((64 << 10) + 1, True), (4 << 20, True), ((4 << 20) + 1, False)]
)
def test_a_profile_counts_up_to_four_megabytes(size: int, counts: bool) -> None:
    red = encoded(Image.new("RGB", (40, 30), (255, 0, 0)), "JPEG", icc_profile=longer(SWAPPED, size))
    expected = (0, 0, 255) if counts else (255, 0, 0)
    assert np.abs(pixels(done(red, encode_format="png", encode_quality=6))[10, 10] - expected).max() <= 6


@pytest.mark.parametrize("profile", [b"no profile", SWAPPED[:200], INKS])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_profile_that_cannot_be_read_or_is_of_another_mode_changes_nothing(kind: str, profile: bytes) -> None:
    plain = done(encoded(scene(60, 40), kind))
    assert done(encoded(scene(60, 40), kind, icc_profile=profile)).data == plain.data


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_those_of_the_profile_too(kind: str) -> None:
    magenta = Image.new("CMYK", (40, 30), (0, 255, 0, 0))
    shown = [
        pixels(done(encoded(magenta, kind, icc_profile=icc), encode_format="png", encode_quality=6))[10, 10].tolist()
        for icc in (INKS, SWAPPED, b"no profile", b"")
    ]
    assert len(set(shown[0])) == 1, "gray"
    assert shown[1] == shown[2] == shown[3] and shown[3][0] > 200 > 60 > shown[3][1]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P", "F", "CMYK", "1", "YCbCr"])
def test_a_large_picture_is_the_same_strip_by_strip(mode: str) -> None:
    """Each of 1,500 columns, of which 1,398 rows make a strip."""
    width, height = 1_500, 1_400
    values = np.indices((height, width)).sum(0) % 256
    if mode == "I;16":
        picture = Image.fromarray((values * 257).astype(np.uint16))
    elif mode == "F":
        picture = Image.fromarray(values.astype(np.float32))
    elif mode in ("RGBA", "LA", "CMYK", "YCbCr"):
        names = Image.new(mode, (1, 1)).getbands()
        bands = [Image.fromarray(np.roll(values, 40 * n, 1).astype(np.uint8)) for n in range(len(names))]
        picture = Image.merge(mode, bands)
    else:
        picture = Image.fromarray(values.astype(np.uint8)).convert(mode)
    flat = flatten(picture, "#ff0000")
    assert flat.shape == (height, width, 3)
    for rows in (slice(0, 20), slice(1_390, 1_400)):
        alone = picture.crop((0, rows.start, width, rows.stop))
        assert np.array_equal(flat[rows], flatten(alone, "#ff0000"))


def test_a_large_array_is_turned_to_srgb_in_strips_too() -> None:
    array = np.zeros((1_400, 1_500, 3), np.uint8)
    array[:, :, 0] = np.indices((1_400, 1_500)).sum(0) % 256
    turned = to_srgb(array, SWAPPED)
    assert np.array_equal(turned[1_390:], to_srgb(array[1_390:], SWAPPED)) and np.ptp(turned[:, :, 2]) > 200
    assert to_srgb(array, b"") is array and to_srgb(array, b"no profile") is array


@pytest.mark.parametrize("most, shown", [(1.0, 128), (0.5, 64), (255.0, 0), (2.0, 0)])
def test_numbers_up_to_one_are_shares_of_white_and_others_of_255(most: float, shown: int) -> None:
    values = np.full((20, 30), most, np.float32)
    values[:10] = min(most, 1) / 2
    values[0, 0] = np.nan
    data = encoded(Image.fromarray(values), "TIFF")
    seen = pixels(done(data, encode_format="png", encode_quality=6))
    assert np.abs(seen[5, 20] - shown).max() <= 1 and seen[0, 0].tolist() == [0, 0, 0]
    assert np.abs(seen[15, 20] - (most if most > 1 else most * 255)).max() <= 1


def test_numbers_beyond_white_are_white_and_below_black_black() -> None:
    values = np.array([[-5, 0], [255, 9_000]], np.float32)
    assert flatten(Image.fromarray(values), "#ff0000")[:, :, 0].tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(640, 480), (641, 479), (9, 7)])
def test_a_jpeg_is_decoded_at_a_part_of_its_size_rounded_up(size: tuple[int, int], scale: int) -> None:
    data = encoded(scene(*size), "JPEG")
    found = probe(data)
    assert isinstance(found, Probe)
    array = decode(data, found, scale=scale, background="#ffffff")
    assert not isinstance(array, Refused) and array.shape == (-(-size[1] // scale), -(-size[0] // scale), 3)


def test_scales_leave_both_sides_their_margin() -> None:
    tall = Probe("jpg", 800, 4_000)
    assert [jpeg_scale(tall, *sides, 1.0) for sides in ((100, 500), (101, 500), (100, 501), (1, 1))] == [8, 4, 4, 8]
    assert jpeg_scale(Probe("jpg", 4_000, 800), 100, 500, 1.0) == 8
    assert [jpeg_scale(tall, 100, 500, margin) for margin in (1.01, 2.0, 2.01, 8.0)] == [4, 4, 2, 1]


BARE = encoded(scene(200, 150), "JPEG")
END = b"\xff\xd9"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_of_a_jpeg_without_its_end_nothing_is_shown(mode: str, progressive: bool) -> None:
    data = encoded(scene(200, 150).convert(mode), "JPEG", progressive=progressive)
    found = probe(data)
    assert isinstance(found, Probe)
    assert decode(data[: len(data) // 2], found, scale=1, background="white") == Refused(Reason.IMAGE_TRUNCATED)


def test_bytes_astray_before_a_marker_are_no_reason_to_refuse_a_picture() -> None:
    data = BARE[:-2] + b"astray" + END
    assert np.array_equal(pixels(done(data)), pixels(done(BARE)))
    found = probe(data)
    assert isinstance(found, Probe)
    half, whole = (decode(one, found, scale=2, background="white") for one in (data, BARE))
    assert isinstance(half, np.ndarray) and half.shape == (75, 100, 3) and np.array_equal(half, whole)


def test_pixels_that_make_no_sense_are() -> None:
    middle = len(BARE) // 2
    result = process(BARE[:middle] + b"\xff\xd8" + BARE[middle + 2 :], ImageConfig())
    assert isinstance(result, Refused) and result.reason is Reason.IMAGE_CORRUPT


def plain_kinds() -> dict[str, bytes]:
    """What is nearly of the kinds that the fast decoders take, and is none of them."""
    small = scene(61, 47)
    glass = small.copy()
    glass.putalpha(small.convert("L"))
    other = Image.new("RGB", small.size, "red")
    return {
        "png of a palette": encoded(small.quantize(16), "PNG"),
        "gray png": encoded(small.convert("L"), "PNG"),
        "gray png with alpha": encoded(glass.convert("LA"), "PNG"),
        "png with a key": encoded(small, "PNG", transparency=(1, 2, 3)),
        "png with a profile": encoded(small, "PNG", icc_profile=SWAPPED),
        "animated png": encoded(small, "PNG", save_all=True, append_images=[other]),
        "webp with alpha": encoded(glass, "WEBP"),
        "lossless webp with alpha": encoded(glass, "WEBP", lossless=True, exact=True),
        "webp with a profile": encoded(small, "WEBP", icc_profile=SWAPPED),
        "animated webp": encoded(small, "WEBP", save_all=True, append_images=[other]),
    }


NOT_PLAIN = plain_kinds()


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_the_fast_decoders_would_get_wrong_they_leave_to_pillow(name: str) -> None:
    data = NOT_PLAIN[name]
    found = probe(data)
    assert isinstance(found, Probe) and _decode_plain(data, found, "#fff") is None
    assert isinstance(done(data), Processed)


@pytest.mark.parametrize("name", ["png", "png with alpha", "webp", "lossless webp"])
@pytest.mark.parametrize("beside", [{}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}])
def test_the_plain_kinds_need_no_pillow(name: str, beside: dict[str, Any]) -> None:
    with Image.open(io.BytesIO(FAST_KINDS[name])) as opened:
        options = {"lossless": True} if "lossless" in name else {}
        data = encoded(opened, str(opened.format), **beside, **options)
    shown = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", shown.size, "#00ff00"), shown).convert("RGB")
    found = probe(data)
    assert isinstance(found, Probe)
    fast = _decode_plain(data, found, "#00ff00")
    assert fast is not None and np.abs(fast.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_every_mode_with_alpha_is_laid_on_paper(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((200, 200, 200, 255), (0, 0, 2, 4))
    if mode == "PA":
        picture = Image.new("PA", (4, 4))
        picture.putpalette([0, 0, 0, 200, 200, 200])
        picture.paste((1, 255), (0, 0, 2, 4))
    else:
        picture = clear.convert(mode)
    flat = flatten(picture, "#ff0000")
    assert flat[0, 0].tolist() == [200] * 3 and flat[0, 3].tolist() == [255, 0, 0]
