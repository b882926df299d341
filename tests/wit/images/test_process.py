"""Pictures as they come: every format ends as the right pixels or as its own bytes, or under the right Reason."""

from __future__ import annotations

import hashlib
import io
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import ANEW, IEND, KEEP, KEPT, chunk, done, encoded, pixels, psnr, scene, told
from PIL import Image

from wit.images.blocklist import Blocklist
from wit.images.config import ImageConfig
from wit.images.process import looks_at_pixels, process, stored_formats
from wit.images.results import Processed, Refused
from wit.reasons import Reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_format_becomes_the_picture_that_pillow_sees(kind: str) -> None:
    data = encoded(scene(), kind)
    result = done(data, image_size=128, encode_format="png", encode_quality=6)
    reference = Image.open(io.BytesIO(data)).convert("RGB").resize((171, 128), Image.Resampling.LANCZOS)
    assert (result.width, result.height, result.original_width, result.original_height) == (171, 128, 640, 480)
    assert psnr(pixels(result), np.asarray(reference, np.float64)) > 40
    assert result.original_format == {"JPEG": "jpg"}.get(kind, kind.lower())


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


def test_pixel_caps_come_from_the_header() -> None:
    data = encoded(scene(), "PNG")
    result = process(data, ImageConfig(max_pixels=1000))
    assert isinstance(result, Refused)
    assert (result.reason, result.detail) == (Reason.IMAGE_TOO_MANY_PIXELS, "640 x 480")


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


@pytest.mark.parametrize("most, refused", [(30_000, False), (29_999, True)])
def test_the_cap_on_pixels_is_the_most_that_is_let_in(most: int, refused: bool) -> None:
    result = process(KEPT["png"], replace(KEEP, max_pixels=most))
    assert isinstance(result, Refused) == refused


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("name", ["baseline", "png"])
def test_what_has_no_end_is_cut_before_anything_is_decoded(name: str, hashes: bool) -> None:
    """In whatever way it is stored, and though all of its pixels are there."""
    for config in (ImageConfig(perceptual_hashes=hashes), replace(KEEP, perceptual_hashes=hashes, check_pixels="none")):
        assert process(KEPT[name][:-2], config) == Refused(Reason.IMAGE_TRUNCATED)


def test_a_listed_picture_is_refused_though_it_is_none() -> None:
    data = b"no picture"
    listed = hashlib.sha256(data).hexdigest()
    assert process(data, KEEP, Blocklist({listed: "a list"})) == Refused(Reason.BLOCKED_HASH, f"{listed} a list")
    assert process(data, KEEP, Blocklist({"0" * 64: "a list"})) == Refused(Reason.NOT_AN_IMAGE)


@pytest.mark.parametrize("check", ["fast", "full", "none"])
def test_an_extended_webp_that_its_header_alone_allows_is_not_kept(check: Any) -> None:
    """A canvas with an animation announced, and no frame behind it."""
    canvas = b"VP8X\x0a\0\0\0\x02\0\0\0" + (99).to_bytes(3, "little") * 2
    data = b"RIFF" + (4 + len(canvas)).to_bytes(4, "little") + b"WEBP" + canvas
    result = process(data, replace(KEEP, check_pixels=check))
    assert isinstance(result, Refused) and result.reason in (Reason.IMAGE_CORRUPT, Reason.IMAGE_TRUNCATED)


@pytest.mark.parametrize("name", [*KEPT, *ANEW])
def test_the_columns_of_a_kept_picture_are_its_own(name: str) -> None:
    data = (KEPT | ANEW)[name]
    result = done(data, keep_original=True, perceptual_hashes=False)
    assert (result.original_width, result.original_height, result.width, result.height) == (200, 150, 200, 150)
    assert result.original_sha256 == hashlib.sha256(data).hexdigest()
    assert result.sha256 == hashlib.sha256(result.data).hexdigest()
    assert (result.phash, result.pdq, result.pdq_quality) == (None, None, None)
    assert result.format == (result.original_format if name in KEPT else "jpg")


@pytest.mark.parametrize(
    "knobs, listed, decodes",
    [
        ({}, "sha", True),
        ({"keep_original": True}, "sha", True),
        ({"keep_original": True, "perceptual_hashes": False}, "sha", True),
        ({"keep_original": True, "perceptual_hashes": False, "check_pixels": "none"}, "sha", False),
        ({"keep_original": True, "perceptual_hashes": False, "check_pixels": "none"}, "pdq", True),
        ({"keep_original": True, "check_pixels": "none"}, "sha", True),
        ({"perceptual_hashes": False, "check_pixels": "none"}, "sha", True),
    ],
)
def test_whether_any_picture_is_decoded_is_known_from_the_settings(knobs: Any, listed: str, decodes: bool) -> None:
    blocked = Blocklist(["ab" * 32 if listed == "sha" else "pdq:" + "ab" * 32])
    assert looks_at_pixels(ImageConfig(**knobs), blocked) == decodes


@pytest.mark.parametrize(
    "knobs, names",
    [
        ({}, ["jpg"]),
        ({"encode_format": "webp"}, ["webp"]),
        ({"keep_original": True}, ["jpg", "png", "webp"]),
        ({"keep_original": True, "encode_format": "webp"}, ["webp", "jpg", "png"]),
    ],
)
def test_what_pictures_may_be_stored_as(knobs: Any, names: list[str]) -> None:
    assert [form.name for form in stored_formats(ImageConfig(**knobs))] == names


def test_what_is_stored_anew_keeps_its_size_and_the_knobs_of_its_encoder() -> None:
    gif = encoded(scene(600, 400).quantize(32), "GIF")
    kept = done(gif, keep_original=True, encode_format="webp", encode_quality=50)
    assert (kept.format, kept.width, kept.height) == ("webp", 600, 400)
    assert (done(gif).width, done(gif).height) == (384, 256)
