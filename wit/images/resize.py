"""Pictures to their exact size: img2dataset's resize modes, by its names, with a SIMD Lanczos."""

from __future__ import annotations

import functools

import numpy as np
from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image, ImageColor

from wit.images.config import ImageConfig
from wit.images.decode import RGB

RESIZER = Resizer()
LANCZOS = ResizeAlg.convolution(FilterType.lanczos3)


def target_size(size: tuple[int, int], config: ImageConfig) -> tuple[int, int]:
    """(width, height) after scaling and before padding or cropping, for a picture of `size` as a viewer sees it."""
    if config.resize_mode == "no":
        return size
    by = min(size) if config.resize_mode in ("keep_ratio", "center_crop") else max(size)
    if config.resize_only_if_bigger and by <= config.image_size:
        return size
    width, height = (max(1, round(side * config.image_size / by)) for side in size)
    return width, height


def stored_size(size: tuple[int, int], config: ImageConfig) -> tuple[int, int]:
    """(width, height) after padding or cropping, for a picture of `size` as a viewer sees it."""
    if config.keep_original:
        return size
    scaled = target_size(size, config)
    if config.resize_mode not in ("border", "center_crop") or (config.resize_only_if_bigger and scaled == size):
        return scaled
    return config.image_size, config.image_size


def resize(pixels: RGB, width: int, height: int, box: tuple[float, float] | None = None) -> RGB:
    """The picture at another size. If only part of the array is picture, `box` is the (width, height) of that part, from the
    upper left corner.

    A JPEG 1001 pixels wide, decoded at 1/2, has 501 columns, but only 500.5 of them are picture. Without the box the picture
    would be stretched by a thousandth (docs/log.md: 9 dB at the 5th percentile). This resizer crashes on some boxes whose far
    edge is no exact number in binary; these are multiples of 1/8."""
    if pixels.shape[:2] == (height, width):
        return pixels
    source = ImageData(pixels.shape[1], pixels.shape[0], PixelType.U8x3, pixels.tobytes())
    target = ImageData(width, height, PixelType.U8x3)
    RESIZER.resize(source, target, ResizeOptions(LANCZOS, crop_box=CropBox(0, 0, *box) if box else None))
    del source  # before the target is copied
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, 3)


def turn(pixels: RGB, orientation: int) -> RGB:
    """The picture turned and mirrored as its EXIF orientation (1 to 8) asks."""
    if orientation in (2, 5, 7, 4):
        pixels = pixels[:, ::-1]
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def pad_or_crop(pixels: RGB, config: ImageConfig, scaled: bool) -> RGB:
    """The picture made square: padded with the background (border), or its middle cut out (center_crop). In other modes, and
    for a picture that was too small to scale, it is unchanged."""
    if config.resize_mode not in ("border", "center_crop") or (config.resize_only_if_bigger and not scaled):
        return pixels
    side = config.image_size
    height, width = pixels.shape[:2]
    if config.resize_mode == "center_crop":
        top, left = (height - side) // 2, (width - side) // 2
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])
    paper = blank(side, config.background).copy()
    top, left = (side - height) // 2, (side - width) // 2
    paper[top : top + height, left : left + width] = pixels
    return paper


@functools.lru_cache(maxsize=4)
def blank(side: int, colour: str) -> RGB:
    """A square of one colour. It is cached, since a copy takes a tenth of the time of painting one."""
    paper = np.empty((side, side, 3), np.uint8)
    paper[:] = ImageColor.getrgb(colour)[:3]
    return paper


def as_picture(pixels: RGB) -> Image.Image:
    return Image.fromarray(pixels)
