from __future__ import annotations

import io
from typing import Any

import imagehash
import numpy as np
import pytest
from pictures import done, encoded, pixels, psnr, scene
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import get_sampling

from wit.images.config import ImageConfig
from wit.images.pixels import encode, picture_box
from wit.images.process import process
from wit.images.results import Probe, Refused
from wit.reasons import Reason


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


def test_a_jpeg_scaled_while_decoding_is_not_stretched() -> None:
    """1001 columns at 1/2 are 500.5, which the decoder rounds up to 501."""
    sharp = Image.fromarray((np.indices((667, 1001)).sum(0) // 8 % 2 * 200 + 20).astype(np.uint8)).convert("RGB")
    data = encoded(sharp, "JPEG", quality=95)
    reference = Image.open(io.BytesIO(data)).resize((384, 256), Image.Resampling.LANCZOS)
    stored = pixels(done(data, encode_format="png", encode_quality=6, perceptual_hashes=False))
    assert psnr(stored, np.asarray(reference, np.float64)) > 30  # 16 where the whole array is taken for the picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_hashes_are_of_the_upright_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(300, 900), "PNG", exif=exif)
    upright = done(encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), "PNG"))
    turned = done(data)
    assert hamming(turned.pdq, upright.pdq) <= 4 and turned.pdq_quality == pytest.approx(upright.pdq_quality, abs=2)


def hamming(one: bytes | None, other: bytes | None) -> int:
    assert one and other
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


@pytest.mark.parametrize("mode", ["border", "center_crop", "no", "keep_ratio_largest"])
def test_hashes_are_those_of_the_picture_whatever_is_stored_of_it(mode: Any) -> None:
    data = encoded(scene(300, 900), "PNG")
    usual, other = done(data), done(data, resize_mode=mode, image_size=50)
    assert (other.phash, other.pdq, other.pdq_quality) == (usual.phash, usual.pdq, usual.pdq_quality)


@pytest.mark.parametrize("perceptual_hashes", [True, False])
def test_a_jpeg_is_decoded_larger_than_it_is_stored(perceptual_hashes: bool) -> None:
    """At the stored size itself, which is half of its own, libjpeg's scaling is another picture."""
    sharp = Image.fromarray((np.indices((512, 512)).prod(0) // 900 % 2 * 200 + 20).astype(np.uint8)).convert("RGB")
    data = encoded(sharp, "JPEG", quality=95)
    reference = Image.open(io.BytesIO(data)).resize((256, 256), Image.Resampling.LANCZOS)
    stored = pixels(done(data, encode_format="png", encode_quality=6, perceptual_hashes=perceptual_hashes))
    assert psnr(stored, np.asarray(reference, np.float64)) > 45


def test_hashes_are_of_no_smaller_a_picture_than_they_see() -> None:
    """However small it is stored."""
    data = encoded(scene(2_000, 2_000, 5), "JPEG", quality=95)
    assert hamming(done(data, image_size=8).pdq, done(data, image_size=2_000).pdq) <= 8


@pytest.mark.parametrize(
    "decoded, size, box",
    [
        ((501, 334), (1001, 667), (500.5, 333.5)),
        ((500, 334), (1000, 667), (500, 333.5)),
        ((251, 167), (1001, 667), (250.25, 166.75)),
        ((126, 84), (1001, 667), (125.125, 83.375)),
        ((500, 300), (1000, 600), None),  # all of it is picture
        ((1, 1), (1, 1), None),
        ((1001, 667), (1001, 667), None),
        ((400, 334), (1001, 667), None),
        ((501, 300), (1001, 667), None),
    ],
)
def test_what_is_picture_in_what_was_decoded(decoded: tuple[int, int], size: tuple[int, int], box: Any) -> None:
    array = np.zeros((decoded[1], decoded[0], 3), np.uint8)
    assert picture_box(array, Probe("jpg", *size)) == box


@pytest.mark.parametrize("quality", [50, 92, 100])
def test_a_jpeg_is_of_the_quality_asked_for_with_all_its_colour(quality: int) -> None:
    array = np.asarray(scene(64, 48))
    stored = Image.open(io.BytesIO(encode(array, ImageConfig(encode_quality=quality))))
    pillows = Image.open(io.BytesIO(encoded(scene(64, 48), "JPEG", quality=quality, subsampling=0)))
    assert stored.quantization == pillows.quantization  # type: ignore[attr-defined]
    assert get_sampling(stored) == get_sampling(pillows) == 0


@pytest.mark.parametrize("kind, low, high", [("png", 0, 9), ("webp", 100, 10)])
def test_the_knob_of_the_other_encoders_counts_too(kind: Any, low: int, high: int) -> None:
    large, small = (
        encode(np.asarray(scene()), ImageConfig(encode_format=kind, encode_quality=quality)) for quality in (low, high)
    )
    assert len(large) > 2 * len(small)


def test_a_small_picture_has_no_border_and_a_scaled_one_has() -> None:
    for side, expected in ((100, (100, 100)), (256, (256, 256)), (400, (256, 256))):
        result = done(encoded(scene(side, side), "PNG"), resize_mode="border")
        assert (result.width, result.height) == expected
    tall = done(
        encoded(scene(200, 400), "PNG"),
        resize_mode="border",
        background="#ff0000",
        encode_format="png",
        encode_quality=6,
    )
    assert pixels(tall)[128, 10].tolist() == [255, 0, 0] and pixels(tall)[128, 128].tolist() != [255, 0, 0]


def test_what_would_take_more_than_a_process_may_have_is_not_decoded() -> None:
    """Known from the header: there are no pixels behind this one."""
    data = encoded(Image.new("L", (9_000, 9_000)), "PNG", compress_level=1)
    result = process(
        data[:60] + data[-30:], ImageConfig(max_pixels=100_000_000, encode_format="webp", resize_mode="no")
    )
    assert isinstance(result, Refused) and result.reason is Reason.IMAGE_NEEDS_MEMORY


@pytest.mark.parametrize("keep", [True, False])
def test_the_columns_of_a_turned_picture_are_as_a_viewer_sees_it(keep: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    result = done(encoded(scene(600, 300), "JPEG", exif=exif), keep_original=keep, resize_mode="no")
    assert (result.original_width, result.original_height) == (result.width, result.height) == (300, 600)
