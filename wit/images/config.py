"""The knobs of stored pictures; those that img2dataset has too bear its names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from wit.errors import InputError
from wit.images.formats import ENCODERS, EncodeFormat
from wit.knobs import Range, added, check_ranges

ResizeMode = Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
ExifFields = Literal["none", "technical", "all"]
CheckPixels = Literal["fast", "full", "none"]


RANGES = {
    "image_size": Range(1, 16_383),  # WebP's longest side
    "max_pixels": Range(1, 1e9),
    "decode_timeout_s": Range(0.01, 3_600),
}


def is_colour(word: str) -> bool:
    """Whether Pillow knows the colour."""
    if re.fullmatch("#[0-9a-fA-F]{6}", word):
        return True
    from PIL import ImageColor  # not above: it costs a process 10 ms, and nearly everybody gives digits

    try:
        return bool(ImageColor.getrgb(word))
    except ValueError:
        return False


@dataclass(frozen=True)
class ImageConfig:
    """How a fetched picture becomes a stored one."""

    image_size: int = 256
    """pixels of the side that --resize-mode fixes"""
    resize_mode: ResizeMode = "keep_ratio"
    """keep_ratio: the shorter side becomes --image-size (what CLIP's random square crop wants); keep_ratio_largest: the
    longer side does; border: the longer side does, padded to a square; center_crop: the shorter side does, cropped to a square;
    no: pictures keep their size"""
    resize_only_if_bigger: bool = True
    """never enlarge: invented pixels cost bytes and teach nothing (img2dataset enlarges by default)"""
    encode_format: EncodeFormat = "jpg"
    """format of the stored pictures"""
    encode_quality: int = 92
    """1 to 100 for jpg and webp, compression level 0 to 9 for png; 92 with all colour, as here, takes the bytes of
    img2dataset's 95 without"""
    keep_original: bool = False
    """store the fetched bytes of JPEG, PNG and WebP as they are; what readers of shards do not know (GIF, BMP, TIFF, AVIF) is
    encoded anew in its own size"""
    check_pixels: CheckPixels = field(default="fast", metadata=added(since=3, before="none"))
    """how kept bytes are looked at where nothing else (hashes, block lists) decodes them. fast: the structure of a JPEG or a
    lossy WebP is compared with its size, a PNG is inflated and its CRCs compared, others are decoded: finds every file that
    was cut off, but not every one of which somebody set end mark or sizes right behind the cut; full: every coefficient and
    pixel is decoded, and each warning is an error; none: the header alone, so that a cut or empty picture may be stored"""
    perceptual_hashes: bool = True
    """pHash and PDQ of every picture; without them duplicates are found by bytes alone"""
    background: str = "#ffffff"
    """colour that shows through transparency and fills borders"""
    max_pixels: int = 64_000_000
    """width x height by the header, before any pixel is decoded: 64 MP is an 8000 x 8000 photograph; kinds that need more
    memory than a decode process may take (1 GB), such as large animations, are refused from 42 MP on"""
    exif: ExifFields = "none"
    """what fills the exif column, a JSON object of tag names: none; technical: camera model, lens, exposure, resolution; all:
    time, place, serial numbers and names too, which are personal data"""
    decode_timeout_s: float = 20
    """seconds for one picture in the decode process; past it the process is replaced and the picture dropped"""
    verify_hash: str | None = field(default=None, metadata=added(since=2, before=None))
    """column of a table source with a hash of each picture: md5, sha256 or sha512 of the bytes fetched, told apart by
    length, or, where its name has pdq in it, PDQ; what differs is dropped as hash_mismatch, and so is a value that is no hash;
    an empty cell is not checked"""
    blocked_hashes: tuple[str, ...] = ()
    """files of hashes that must never be stored, one a line: a hexadecimal sha256, or pdq: and a PDQ; a picture that matches
    is not written, and which hash of which list it was, and its URL, stand in OUT/restricted alone, for its owner's eyes"""

    def __post_init__(self) -> None:
        qualities = ENCODERS[self.encode_format].qualities
        if not qualities.holds(self.encode_quality):
            raise InputError(
                f"--encode-quality is {self.encode_quality}: give {qualities}, which is what {self.encode_format} takes"
            )
        check_ranges(self, RANGES)
        if self.verify_hash and "pdq" in self.verify_hash.lower() and not self.perceptual_hashes:
            raise InputError("--verify-hash of a PDQ compares perceptual hashes: leave out --no-perceptual-hashes")
        if not is_colour(self.background):
            raise InputError(f"--background is {self.background}: give a colour, for instance #ffffff or white")
