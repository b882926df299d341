"""Every mode of every format becomes the colours that a viewer sees."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import IEND, chunk, done, encoded, pixels, scene
from PIL import Image, ImageCms

from wit.images.decode import _decode_plain, _decode_with_pillow, jpeg_scale
from wit.images.headers import probe
from wit.images.results import Refused


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
