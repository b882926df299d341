"""What a header says, and what is no header."""

from __future__ import annotations

import pytest
from pictures import KEPT, done, encoded, scene
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from wit.images.config import ImageConfig
from wit.images.headers import png_icc
from wit.images.process import process
from wit.images.results import Refused
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
