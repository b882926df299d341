"""Pictures as they come: every format, mode and orientation ends as the right pixels, or under the right Reason."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from dataclasses import replace
from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from wit.errors import InputError
from wit.images.blocklist import Blocklist
from wit.images.config import ImageConfig
from wit.images.decode import _decode_plain, _decode_with_pillow, jpeg_scale
from wit.images.expected import compared, expected_hash
from wit.images.hashes import pdq
from wit.images.headers import png_icc, probe
from wit.images.process import process
from wit.images.resize import target_size
from wit.images.results import Processed, Refused
from wit.records import Reason


def scene(width: int = 640, height: int = 480, seed: int = 3) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def done(data: bytes, **knobs: Any) -> Processed:
    result = process(data, ImageConfig(**knobs))
    assert isinstance(result, Processed), result
    return result


def pixels(result: Processed) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(result.data)).convert("RGB"), np.float64)


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return 10 * float(np.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_format_becomes_the_picture_that_pillow_sees(kind: str) -> None:
    data = encoded(scene(), kind)
    result = done(data, image_size=128, encode_format="png", encode_quality=6)
    reference = Image.open(io.BytesIO(data)).convert("RGB").resize((171, 128), Image.Resampling.LANCZOS)
    assert (result.width, result.height, result.original_width, result.original_height) == (171, 128, 640, 480)
    assert psnr(pixels(result), np.asarray(reference, np.float64)) > 40
    assert result.original_format == {"JPEG": "jpg"}.get(kind, kind.lower())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    result = done(data, image_size=120)
    assert (result.original_width, result.original_height) == upright.size
    reference = upright.resize((result.width, result.height), Image.Resampling.LANCZOS)
    assert psnr(pixels(result), np.asarray(reference, np.float64)) > 34
    assert (result.phash ^ int(str(imagehash.phash(upright)), 16)).bit_count() <= 4  # type: ignore[operator]


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


MODES = "mode, size, bigger_only, expected"


@pytest.mark.parametrize(
    MODES,
    [
        ("no", (640, 480), True, (640, 480)),
        ("border", (640, 480), True, (256, 256)),
        ("keep_ratio", (640, 480), True, (341, 256)),
        ("keep_ratio_largest", (640, 480), True, (256, 192)),
        ("center_crop", (640, 480), True, (256, 256)),
        ("border", (100, 50), True, (100, 50)),
        ("keep_ratio", (100, 50), True, (100, 50)),
        ("center_crop", (100, 50), True, (100, 50)),
        ("border", (100, 50), False, (256, 256)),
        ("keep_ratio", (100, 50), False, (512, 256)),
        ("keep_ratio_largest", (100, 50), False, (256, 128)),
        ("center_crop", (100, 50), False, (256, 256)),
        ("keep_ratio", (3000, 20), False, (38400, 256)),
        ("keep_ratio_largest", (3000, 2), True, (256, 1)),
    ],
)
def test_resize_modes_are_img2datasets(
    mode: Any, size: tuple[int, int], bigger_only: bool, expected: tuple[int, int]
) -> None:
    result = done(encoded(scene(*size), "PNG"), resize_mode=mode, resize_only_if_bigger=bigger_only)
    assert (result.width, result.height) == expected


def test_border_is_white_and_the_picture_in_the_middle() -> None:
    stored = pixels(
        done(
            encoded(Image.new("RGB", (400, 200), "black"), "PNG"),
            resize_mode="border",
            encode_format="png",
            encode_quality=6,
        )
    )
    assert (stored[:64] == 255).all() and (stored[-64:] == 255).all()
    assert (stored[70:186] == 0).all()


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


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_stored_bytes_are_what_the_columns_say(kind: Any) -> None:
    data = encoded(scene(), "JPEG")
    result = done(data, encode_format=kind, encode_quality=8 if kind == "png" else 90)
    assert (
        result.format == kind
        and result.data
        == process(data, ImageConfig(encode_format=kind, encode_quality=8 if kind == "png" else 90)).data
    )  # type: ignore[union-attr]
    assert result.sha256 == hashlib.sha256(result.data).hexdigest()
    assert result.original_sha256 == hashlib.sha256(data).hexdigest()
    with Image.open(io.BytesIO(result.data)) as opened:
        assert opened.size == (result.width, result.height)


@pytest.mark.parametrize("hashes", [True, False])
def test_originals_are_kept_after_validation(hashes: bool) -> None:
    data = encoded(scene(), "PNG")
    result = done(data, keep_original=True, perceptual_hashes=hashes)
    assert (result.data, result.format, result.width) == (data, "png", 640)
    assert (result.phash is not None) == hashes
    cut = process(data[:-20], ImageConfig(keep_original=True, perceptual_hashes=hashes))
    assert isinstance(cut, Refused) and cut.reason is Reason.IMAGE_TRUNCATED


def test_hashes_survive_sizes_and_encodings() -> None:
    reference = done(encoded(scene(1200, 900), "PNG"))
    for data in (encoded(scene(600, 450), "JPEG", quality=80), encoded(scene(1200, 900), "WEBP", quality=70)):
        other = done(data)
        assert (reference.phash ^ other.phash).bit_count() <= 6  # type: ignore[operator]
        assert (int.from_bytes(reference.pdq) ^ int.from_bytes(other.pdq)).bit_count() <= 31  # type: ignore[arg-type]
    different = done(encoded(scene(seed=9), "PNG"))
    assert (int.from_bytes(reference.pdq) ^ int.from_bytes(different.pdq)).bit_count() > 80  # type: ignore[arg-type]


def obvious_pdq(gray: np.ndarray[Any, Any]) -> bytes:
    """PDQ by its definition, step by step: two lopsided box passes along both sides, 64 samples, DCT, median."""

    def box(values: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
        half = (window + 2) // 2
        return np.array([values[max(0, i - window + half) : i + half].mean(0) for i in range(len(values))])

    for _ in range(2):
        gray = box(gray, (gray.shape[0] + 127) // 128)
        gray = box(gray.T, (gray.shape[1] + 127) // 128).T
    rows, columns = (((np.arange(64) + 0.5) * side / 64).astype(int) for side in gray.shape)
    d = np.cos(np.pi / 128 * (2 * np.arange(64) + 1) * np.arange(1, 17)[:, None])
    dct = d @ gray[np.ix_(rows, columns)] @ d.T
    return np.packbits((dct > np.median(dct)).ravel()[::-1]).tobytes()


@pytest.mark.parametrize("size", [(640, 480), (1000, 700), (256, 256), (300, 900)])
def test_pdq_is_near_its_definition_on_every_pixel(size: tuple[int, int]) -> None:
    picture = scene(*size, seed=5)
    result = done(encoded(picture, "PNG"))
    gray = np.asarray(picture, np.float64) @ (0.299, 0.587, 0.114)
    assert result.pdq_quality is not None and result.pdq_quality >= 80
    assert (int.from_bytes(obvious_pdq(gray)) ^ int.from_bytes(result.pdq or b"")).bit_count() <= 10


def test_a_flat_picture_has_a_worthless_pdq() -> None:
    assert pdq(np.full((256, 256), 77, np.float32), 256, 256)[1] == 0


def test_blocklists_know_bytes_and_near_pictures() -> None:
    data = encoded(scene(), "JPEG", quality=90)
    near = encoded(scene(), "JPEG", quality=60)
    pdq_hash = done(data).pdq
    assert pdq_hash
    for listed in (hashlib.sha256(data).hexdigest(), f"pdq:{pdq_hash.hex()}"):
        result = process(data, ImageConfig(), Blocklist([listed]))
        assert result == Refused(Reason.BLOCKED_HASH, f"{listed} ")
        unhashed = process(data, ImageConfig(perceptual_hashes=False, keep_original=True), Blocklist([listed]))
        assert unhashed == result, "without hash columns the lists count all the same"
    assert isinstance(process(near, ImageConfig(), Blocklist([f"pdq:{pdq_hash.hex()}"])), Refused)
    assert isinstance(process(near, ImageConfig(), Blocklist([hashlib.sha256(data).hexdigest()])), Processed)


def told() -> Image.Exif:
    """EXIF that says how, when, where and by whom."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132], exif[0x013B] = "Camera", "One", "2024:01:02 03:04:05", "A. Person"
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0x9003: "2024:01:02 03:04:05", 0xA431: "SN 1", 0x927C: b"note" * 300})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 1.0, 2.0)})
    return exif


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


def test_pixel_caps_come_from_the_header() -> None:
    data = encoded(scene(), "PNG")
    result = process(data, ImageConfig(max_pixels=1000))
    assert isinstance(result, Refused)
    assert (result.reason, result.detail) == (Reason.IMAGE_TOO_MANY_PIXELS, "640 x 480")


def test_knobs_are_checked() -> None:
    with pytest.raises(InputError, match="0 to 9"):
        ImageConfig(encode_format="png")
    with pytest.raises(InputError, match="image-size"):
        ImageConfig(image_size=0)


def test_jpeg_is_scaled_by_powers_of_two_only() -> None:
    found = probe(encoded(scene(1600, 1200), "JPEG"))
    assert not isinstance(found, Refused)
    assert [jpeg_scale(found, side, side, 1) for side in (150, 151, 300, 600, 601, 5000)] == [8, 4, 4, 2, 1, 1]


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(["border", "keep_ratio", "keep_ratio_largest"]))
def test_sizes_are_never_zero_and_never_grow_unasked(width: int, height: int, mode: Any) -> None:
    w, h = target_size((width, height), ImageConfig(resize_mode=mode))
    assert 1 <= w <= width and 1 <= h <= height


SEEDS = [encoded(scene(200, 150), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=6)), max_size=8),
    st.floats(0.05, 1),
)
def test_mutated_pictures_are_answered_never_raised(seed: bytes, edits: list[tuple[int, bytes]], keep: float) -> None:
    data = bytearray(seed)
    for at, patch in edits:
        data[at : at + len(patch)] = patch
    result = process(bytes(data[: int(len(data) * keep)]), ImageConfig(image_size=64, max_pixels=1_000_000))
    assert isinstance(result, Processed | Refused)


def test_a_jpeg_scaled_while_decoding_is_not_stretched() -> None:
    """1001 columns at 1/2 are 500.5, which the decoder rounds up to 501."""
    sharp = Image.fromarray((np.indices((667, 1001)).sum(0) // 8 % 2 * 200 + 20).astype(np.uint8)).convert("RGB")
    data = encoded(sharp, "JPEG", quality=95)
    reference = Image.open(io.BytesIO(data)).resize((384, 256), Image.Resampling.LANCZOS)
    stored = pixels(done(data, encode_format="png", encode_quality=6, perceptual_hashes=False))
    assert psnr(stored, np.asarray(reference, np.float64)) > 30  # 16 where the whole array is taken for the picture


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


@pytest.mark.parametrize(
    "column, value, expected",
    [
        ("hash", "AB" * 16, "md5:" + "ab" * 16),
        ("hash", "ab" * 32, "sha256:" + "ab" * 32),
        ("hash", "ab" * 64, "sha512:" + "ab" * 64),
        ("pdq_hash", "ab" * 32, "pdq:" + "ab" * 32),
        ("pdq", "ab" * 16, "none:"),
        ("hash", "xy" * 16, "none:"),
        ("hash", -5, "none:"),
        ("hash", " ", ""),
        ("hash", None, ""),
    ],
)
def test_the_kind_of_a_hash_is_told_by_its_length_and_column(column: str, value: object, expected: str) -> None:
    assert expected_hash(column, value) == expected


def test_a_listed_picture_stays_one_whatever_hash_was_expected() -> None:
    blocked = Refused(Reason.BLOCKED_HASH, "x y")
    assert compared(b"other", blocked, "md5:" + "0" * 32) == blocked
    assert compared(b"other", Refused(Reason.IMAGE_CORRUPT), "md5:" + "0" * 32) == Refused(Reason.HASH_MISMATCH)
    assert compared(b"other", Refused(Reason.IMAGE_CORRUPT), "pdq:" + "0" * 64) == Refused(Reason.IMAGE_CORRUPT)


def test_a_pdq_cannot_be_compared_without_hashes() -> None:
    with pytest.raises(InputError, match="perceptual-hashes"):
        ImageConfig(verify_hash="pdq", perceptual_hashes=False)


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


KEPT = {
    "baseline": encoded(scene(200, 150), "JPEG"),
    "progressive": encoded(scene(200, 150), "JPEG", progressive=True),
    "gray": encoded(scene(200, 150).convert("L"), "JPEG"),
    "cmyk": encoded(scene(200, 150).convert("CMYK"), "JPEG"),
    "png": encoded(scene(200, 150), "PNG"),
    "palette": encoded(scene(200, 150).quantize(16), "PNG", bits=4),
    "deep": encoded(Image.fromarray(np.asarray(scene(200, 150).convert("L")).astype(np.uint16) * 257), "PNG"),
    "webp": encoded(scene(200, 150), "WEBP"),
    "lossless": encoded(scene(200, 150).convert("RGBA"), "WEBP", lossless=True),
}
ANEW = {
    "gif": encoded(scene(200, 150).quantize(32), "GIF"),
    "bmp": encoded(scene(200, 150), "BMP"),
    "tiff": encoded(scene(200, 150), "TIFF"),
    "lzw": encoded(scene(200, 150), "TIFF", compression="tiff_lzw"),
    "avif": encoded(scene(200, 150), "AVIF"),
}
KEEP = ImageConfig(keep_original=True, perceptual_hashes=False)


@pytest.mark.parametrize("check", ["fast", "full", "none"])
@pytest.mark.parametrize("name", KEPT)
def test_whole_pictures_are_kept_as_they_came(name: str, check: Any) -> None:
    result = process(KEPT[name], replace(KEEP, check_pixels=check))
    assert isinstance(result, Processed) and result.data == KEPT[name]


@pytest.mark.parametrize("name", ANEW)
def test_what_readers_of_shards_do_not_know_is_stored_anew_in_its_own_size(name: str) -> None:
    result = process(ANEW[name], KEEP)
    assert isinstance(result, Processed)
    assert (result.format, result.width, result.height) == ("jpg", 200, 150)
    assert result.original_format == {"lzw": "tiff"}.get(name, name)
    assert result.sha256 == hashlib.sha256(result.data).hexdigest() != result.original_sha256
    assert psnr(pixels(result), np.asarray(Image.open(io.BytesIO(ANEW[name])).convert("RGB"), np.float64)) > (
        28 if name == "gif" else 34
    )


END_MARK = {"baseline": b"\xff\xd9", "progressive": b"\xff\xd9", "gray": b"\xff\xd9", "cmyk": b"\xff\xd9"}
IEND = b"\0\0\0\0IEND\xaeB`\x82"


@pytest.mark.parametrize("check", ["fast", "full"])
@pytest.mark.parametrize("name", [*KEPT, *ANEW])
def test_no_cut_picture_is_kept(name: str, check: Any) -> None:
    """Cut anywhere, and, where the format has a mark for its end, with that mark set behind the cut (fast does not find that
    in every JPEG: test_whole_jpeg)."""
    data = (KEPT | ANEW)[name]
    end = END_MARK.get(name, IEND if data.startswith(b"\x89PNG") else b"")
    last = len(data) - (12 if end == IEND else 3 if end else 8)
    for at in sorted({*range(0, last, max(last // 60, 1)), last - 1}):
        for cut in {data[:at], data[:at] + (b"" if check == "fast" and name in END_MARK else end)}:
            result = process(cut, replace(KEEP, check_pixels=check))
            assert isinstance(result, Refused), f"{name} cut at {at} of {len(data)}"


@pytest.mark.parametrize(
    "data, reason",
    [
        (
            b"\xff\xd8" + KEPT["baseline"][KEPT["baseline"].index(b"\xff\xc0") :][:19] + b"\xff\xd9",
            Reason.IMAGE_TRUNCATED,
        ),
        (KEPT["png"][:33] + IEND, Reason.IMAGE_TRUNCATED),
    ],
)
def test_a_header_alone_is_no_picture(data: bytes, reason: Reason) -> None:
    result = process(data, KEEP)
    assert isinstance(result, Refused) and result.reason is reason


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


@pytest.mark.parametrize("config", [KEEP, ImageConfig()])
@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"zTXt", b"t\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"iCCP", b"p\0\0" + b"no zlib"),
        chunk(b"iCCP", b"p" * 200),
    ],
    ids=["profile", "text", "broken profile", "nameless profile"],
)
def test_a_png_with_a_bomb_beside_whole_pixels_is_a_picture(bomb: bytes, config: ImageConfig) -> None:
    data = KEPT["png"][:33] + bomb + KEPT["png"][33:]
    assert isinstance(process(data, config), Processed)


def test_the_profile_of_a_png_still_counts() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert png_icc(encoded(scene(), "PNG", icc_profile=profile)) == profile


def test_one_gray_of_sixteen_bits_may_be_transparent() -> None:
    gray = np.full((64, 64), 30_000, np.uint16)
    gray[16:48, 16:48] = 1_000
    data = encoded(Image.fromarray(gray), "PNG")
    data = data[:33] + chunk(b"tRNS", (1_000).to_bytes(2, "big")) + data[33:]
    result = pixels(done(data, encode_format="png", encode_quality=6, background="#ff0000"))
    assert result[32, 32].tolist() == [255, 0, 0]
    assert result[2, 2].tolist() == [117] * 3


@pytest.mark.parametrize("marker, bits", [(0xC3, 8), (0xC1, 12), (0xC0, 12), (0xC7, 8), (0xCB, 8)])
def test_jpegs_that_no_browser_shows_are_unsupported_and_not_corrupt(marker: int, bits: int) -> None:
    data = bytearray(KEPT["baseline"])
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    result = process(bytes(data), ImageConfig())
    assert isinstance(result, Refused) and result.reason is Reason.FORMAT_UNSUPPORTED


CHANGES: dict[str, tuple[Any, bytes]] = {
    "image_size": (64, KEPT["png"]),
    "resize_mode": ("border", KEPT["png"]),
    "resize_only_if_bigger": (False, encoded(scene(60, 50), "PNG")),
    "encode_format": ("webp", KEPT["png"]),
    "encode_quality": (50, KEPT["png"]),
    "keep_original": (True, KEPT["png"]),
    "perceptual_hashes": (False, KEPT["png"]),
    "background": ("#ff0000", encoded(scene().convert("RGBA").resize((90, 90)).rotate(30), "PNG")),
    "max_pixels": (100, KEPT["png"]),
    "exif": ("all", encoded(scene(), "JPEG", exif=told())),
}


@pytest.mark.parametrize("knob", CHANGES)
def test_every_knob_of_pictures_changes_something(knob: str) -> None:
    value, data = CHANGES[knob]
    usual = ImageConfig(image_size=128)
    assert process(data, usual) != process(data, replace(usual, **{knob: value}))


@pytest.mark.parametrize("name, fast", [("png", Refused), ("baseline", Processed)])
def test_check_pixels_changes_something(name: str, fast: type) -> None:
    cut = KEPT[name][: len(KEPT[name]) // 2] + (IEND if name == "png" else END_MARK[name])
    assert isinstance(process(cut, replace(KEEP, check_pixels="none")), Processed)
    assert isinstance(process(cut, KEEP), fast)
    assert isinstance(process(cut, replace(KEEP, check_pixels="full")), Refused)


@pytest.mark.parametrize("behind", [b"junk" * 100, b"\r\n" * 4, b"<!-- said -->", bytes(9)])
@pytest.mark.parametrize("config", [KEEP, replace(KEEP, check_pixels="full"), ImageConfig()])
def test_what_stands_behind_the_end_of_a_png_is_no_part_of_it(behind: bytes, config: ImageConfig) -> None:
    assert isinstance(process(KEPT["png"] + behind, config), Processed)


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


@pytest.mark.parametrize("knobs", [{"background": "nocolour"}, {"max_pixels": -1}, {"decode_timeout_s": 0}])
def test_settings_of_which_nothing_could_come_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give a"):
        ImageConfig(**knobs)
    assert ImageConfig(background="white").background == "white"
