"""The decode process under pictures that are made to end it: one Reason each, no death, and less than 1 GB."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wit.fetch.engine import Child
from wit.fetch.ring import DECODED, create_segment, map_segment, progress_of
from wit.images.config import ImageConfig
from wit.images.process import process
from wit.images.resize import stored_size, target_size
from wit.images.results import Processed, Refused
from wit.records import Reason as R


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = load("hostile_pictures")
RING = 24_000_000


class DecodeProcess:
    """A decode process as the engine starts it, one picture at a time."""

    def __init__(self, folder: Path, config: ImageConfig, *work: str) -> None:
        self.spool = str(folder / "spool")
        fd = create_segment(RING)
        self.memory = map_segment(fd, RING)
        self.child = Child("decode", fd, RING, (config,), *work)
        assert self.answer()[0] == "ready"

    def answer(self) -> tuple[Any, ...]:
        while not (messages := self.child.channel.receive()):
            assert not self.child.channel.closed, "the decode process died"
            select.select([self.child.channel.fileno()], [], [])
        (message,) = messages
        return message

    def told(self, data: bytes, expected: str = "", spool: str = "", loan: int = 0, end: int = 0) -> tuple[Any, ...]:
        """The whole answer to one picture, which stands somewhere in the ring."""
        self.memory[64 : 64 + len(data)] = data
        self.child.channel.send(("decode", 7, expected, 64, len(data), spool or self.spool, loan, end))
        return self.answer()

    def decode(self, data: bytes, expected: str = "") -> Processed | Refused:
        result: Processed | Refused = self.told(data, expected)[2]
        return result

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.child.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


@pytest.fixture
def decode_process(tmp_path: Path) -> Iterator[Callable[..., DecodeProcess]]:
    started: list[DecodeProcess] = []

    def start(config: ImageConfig, *work: str) -> DecodeProcess:
        started.append(DecodeProcess(tmp_path, config, *work))
        return started[-1]

    yield start
    for one in started:
        one.child.stop()
        one.memory.close()


SIDE = 8_000  # 64 MP: the most that the default cap lets in


def gigantic() -> Iterator[tuple[str, bytes, R | None]]:
    """Pictures within the cap on pixels that took up to 2 GB, by name, and how they end."""
    yield "webp animated", made.animated_webp(SIDE), R.IMAGE_NEEDS_MEMORY
    yield "webp animated, just small enough", made.animated_webp(6_400), None
    yield (
        "webp lossless with alpha",
        made.blank("RGBA", SIDE, "WEBP", lossless=True, method=0, quality=0),
        R.IMAGE_NEEDS_MEMORY,
    )
    yield "webp with alpha, just small enough", made.blank("RGBA", 6_400, "WEBP", (1, 2, 3, 99), method=0), None
    yield "png 16-bit gray", made.png(SIDE, SIDE, 16, 0), None
    yield (
        "png with profile",
        made.png(SIDE, SIDE, 8, 6, more=made.chunk(b"iCCP", b"x\0\0" + made.zlib.compress(made.profile(0)))),
        None,
    )
    yield "tiff F", made.blank("F", SIDE, "TIFF", compression="tiff_adobe_deflate", strip_size=1 << 30), None
    yield "tiff with a huge tile", made.HUGE_TILE, R.IMAGE_CORRUPT
    yield "jpg progressive", made.blank("RGB", SIDE, "JPEG", progressive=True, subsampling=0), None
    yield "jpg CMYK progressive", made.blank("CMYK", SIDE, "JPEG", progressive=True, subsampling=0), None
    yield "gif with a huge screen", made.gif(SIDE, SIDE), None
    yield "bmp run lengths", made.bmp_rle(SIDE, SIDE, b"\0\1"), R.IMAGE_TOO_MANY_PARTS
    yield "avif", made.blank("RGB", SIDE, "AVIF", speed=10, quality=10), R.IMAGE_NEEDS_MEMORY
    yield (
        "avif with alpha, just small enough",
        made.blank("RGBA", 7_000, "AVIF", (1, 2, 3, 99), speed=10, subsampling="4:4:4"),
        None,
    )
    yield "tiff tags that share 1 MB", made.shared_tags(3_000, 1_000_000, made.DOT_TAGS), R.IMAGE_TOO_MANY_PARTS
    exif = made.shared_tags(3_000, 1_000_000, [])
    yield "png EXIF that shares 1 MB", made.png(8, 8, 8, 2, more=made.chunk(b"eXIf", exif)), None
    yield (
        "webp EXIF that shares 1 MB",
        made.webp(1, 1, 8, made.riff(b"VP8L", made.DOT[8:]), made.riff(b"EXIF", exif)),
        None,
    )
    yield (
        "png texts of 300 MB",
        made.png(8, 8, 8, 2, more=made.chunk(b"zTXt", b"a\0\0" + made.zlib.compress(bytes(1_000_000))) * 300),
        None,
    )
    small = made.blank("RGB", 64, "JPEG")
    for seed in range(12):
        yield f"jpg with profile {seed} of 15 MB", made.with_profile(small, made.profile(15_000_000, seed)), None


def test_a_decode_process_takes_less_than_1_gb_whatever_comes(decode_process: Callable[..., DecodeProcess]) -> None:
    one, ends = decode_process(ImageConfig()), {}
    usual = made.encoded(made.Image.effect_noise((900, 700), 90).convert("RGB"), "PNG")
    for name, data, reason in gigantic():
        result = one.decode(data)
        ends[name] = (getattr(result, "reason", None), reason)
        assert isinstance(one.decode(usual), Processed), f"after {name}"
        assert one.peak_mb() < 1_000, name
    assert {name: end for name, end in ends.items() if end[0] is not end[1]} == {}


def test_what_a_picture_raises_is_its_reason(
    decode_process: Callable[..., DecodeProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising.py").write_text(
        "class PanicException(BaseException): ...\n"
        "def work(data, config, blocked):\n"
        "    raise {b'v': ValueError, b'm': MemoryError, b'r': RecursionError, b'p': PanicException}[data]('x')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    one = decode_process(ImageConfig(), "raising:work")
    assert [one.decode(data) for data in (b"v", b"m", b"r", b"p", b"other")] == [
        Refused(R.DECODER_CRASHED, "ValueError"),
        Refused(R.IMAGE_NEEDS_MEMORY),
        Refused(R.DECODER_CRASHED, "RecursionError"),
        Refused(R.DECODER_CRASHED, "PanicException"),
        Refused(R.DECODER_CRASHED, "KeyError"),
    ]


SHAPES = [(70_000, 1), (1, 70_000), (65_500, 1), (1, 65_500), (17_000, 300), (16_383, 1), (3_000, 1)]
ENCODERS = [("jpg", 92, 65_500), ("webp", 80, 16_383), ("png", 6, 65_500)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("mode", ["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"])
@pytest.mark.parametrize("bigger_only", [True, False])
def test_a_side_is_too_long_where_the_encoder_says_so(size: tuple[int, int], mode: Any, bigger_only: bool) -> None:
    data = made.png(*size, 8, 2)
    for kind, quality, most in ENCODERS:
        config = ImageConfig(
            resize_mode=mode, encode_format=kind, encode_quality=quality, resize_only_if_bigger=bigger_only
        )
        result = process(data, config)
        if max(size) > 65_500 or max(stored_size(size, config)) > most:
            assert isinstance(result, Refused) and result.reason is R.IMAGE_SIDE_TOO_LONG
        elif isinstance(result, Refused):
            assert result.reason is R.IMAGE_NEEDS_MEMORY and max(target_size(size, config)) > 200_000
        else:
            assert (result.width, result.height) == stored_size(size, config)


def test_a_million_parts_cost_no_time() -> None:
    """Each of these took 1.4 to 60 s or more; what it takes to count them does not grow with their number."""
    for name, data in made.of_many_parts(300_000):
        began = time.process_time()
        result = process(data, ImageConfig())
        assert isinstance(result, Refused) and result.reason is R.IMAGE_TOO_MANY_PARTS, (name, result)
        assert time.process_time() - began < 1, name


def test_what_encoders_write_is_not_too_many_parts() -> None:
    for name, data in made.of_many_parts(90):
        assert isinstance(process(data, ImageConfig()), Processed), name
    two = made.with_scans(made.blank("RGB", 64, "JPEG", progressive=True), 12)
    thumbnails = two[:2] + made.segment(0xE1, b"\xff\xda" * 200) + two[2:] + b"\xff\xda" * 200
    assert isinstance(process(thumbnails, ImageConfig()), Processed), "marks outside of the picture are no scans"


def test_the_cap_on_pixels_comes_before_any_is_decoded() -> None:
    """Tags behind the pixels of a PNG had all of it decoded first."""
    bomb = made.png(20_000, 20_000, 1, 0, late=made.chunk(b"tEXt", b"a\0b"))
    began = time.process_time()
    result = process(bomb, ImageConfig())
    assert isinstance(result, Refused) and result.reason is R.IMAGE_TOO_MANY_PIXELS
    assert time.process_time() - began < 1


SMALL = made.encoded(made.Image.effect_noise((60, 40), 90).convert("RGB"), "PNG")
OTHER = made.encoded(made.Image.effect_noise((90, 70), 20).convert("RGB"), "JPEG")
KEEP = ImageConfig(keep_original=True, perceptual_hashes=False)


def test_what_is_stored_stands_in_its_spool_where_the_answer_says(
    decode_process: Callable[..., DecodeProcess], tmp_path: Path
) -> None:
    one = decode_process(KEEP)
    spools = [str(tmp_path / name) for name in ("a.spool", "b.spool")]
    a, b, c = len(SMALL), len(OTHER), len(SMALL)
    asked = [
        (SMALL, spools[0], 0, 0, 0),
        (OTHER, spools[0], 0, 0, a),  # the supervisor has not heard of the first yet
        (b"no picture", spools[0], 0, a + b, 0),
        (SMALL, spools[0], 0, a + b, a + b),
        (OTHER, spools[1], 0, 100, 100),
        (OTHER, spools[0], 1, 0, 0),  # it was emptied, and begins anew
        (SMALL, spools[0], 1, b, b),
        (SMALL, spools[1], 0, 100, 100 + b),  # as it was left
    ]
    for data, spool, loan, end, offset in asked:
        kind, number, result, at, size = one.told(data, "", spool, loan, end)
        assert (kind, number) == ("decoded", 7)
        if data == b"no picture":
            assert (result, at, size) == (Refused(R.NOT_AN_IMAGE), 0, 0)
            continue
        assert (at, size) == (offset, len(data)) and isinstance(result, Processed) and result.data == b""
        assert result == process(data, KEEP).without_data()  # type: ignore[union-attr]
        assert Path(spool).read_bytes()[at : at + size] == data
    assert Path(spools[0]).stat().st_size == a + b + c, "what stood there before is written over, not cut off"


def test_a_picture_is_compared_with_the_hash_that_was_expected(decode_process: Callable[..., DecodeProcess]) -> None:
    one = decode_process(KEEP)
    right, wrong = "md5:" + hashlib.md5(SMALL).hexdigest(), "md5:" + "0" * 32
    assert isinstance(one.decode(SMALL, right), Processed) and isinstance(one.decode(SMALL), Processed)
    assert one.decode(SMALL, wrong) == Refused(R.HASH_MISMATCH)


def test_pictures_of_a_list_are_refused(decode_process: Callable[..., DecodeProcess], tmp_path: Path) -> None:
    digest = hashlib.sha256(SMALL).hexdigest()
    (tmp_path / "listed").write_text(digest + "\n", encoding="utf-8")
    one = decode_process(ImageConfig(blocked_hashes=(str(tmp_path / "listed"),)))
    hit = one.decode(SMALL)
    assert isinstance(hit, Refused) and hit.reason is R.BLOCKED_HASH and hit.detail.startswith(digest)
    assert isinstance(one.decode(OTHER), Processed)


def test_a_full_disk_is_no_fault_of_a_picture_and_ends_the_process(
    decode_process: Callable[..., DecodeProcess],
) -> None:
    one = decode_process(KEEP)
    assert one.told(SMALL, spool="/dev/full") == ("unwritten", errno.ENOSPC)
    assert one.child.process.wait(timeout=20) == 0


def test_pictures_that_were_begun_are_counted_where_all_see_it(decode_process: Callable[..., DecodeProcess]) -> None:
    one = decode_process(KEEP)
    progress = progress_of(one.memory)
    for begun in (1, 2, 3):
        one.decode(SMALL)
        assert progress[DECODED] == begun
    progress.release()


def test_the_process_ends_with_its_supervisor(decode_process: Callable[..., DecodeProcess]) -> None:
    one = decode_process(KEEP)
    one.child.channel.close()
    assert one.child.process.wait(timeout=20) == 0


WORK = """
import os, resource, sys, time, warnings
from wit.images.results import Refused
from wit.reasons import Reason

def work(data, config, blocked):
    if data == b"noise":
        os.write(2, b"a decoder's words")
        print("our own words", file=sys.stderr)
        warnings.warn("a library's words")
    if data == b"core":
        return Refused(Reason.IMAGE_CORRUPT, str(resource.getrlimit(resource.RLIMIT_CORE)))
    if data == b"hang":
        os.read(os.pipe()[0], 1)
    return Refused(Reason.IMAGE_CORRUPT, str(len(bytes(int(data))))) if data.isdigit() else Refused(Reason.IMAGE_CORRUPT)
"""


@pytest.fixture
def worker(
    decode_process: Callable[..., DecodeProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[ImageConfig], DecodeProcess]:
    (tmp_path / "one_of_ours.py").write_text(WORK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda config: decode_process(config, "one_of_ours:work")


def test_decoders_are_silent_and_errors_of_our_own_are_not(
    worker: Callable[[ImageConfig], DecodeProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    worker(KEEP).decode(b"noise")
    said = capfd.readouterr().err
    assert said == "our own words\n"


def test_a_picture_gets_so_much_memory_and_no_core_is_left_of_it(
    worker: Callable[[ImageConfig], DecodeProcess],
) -> None:
    one = worker(KEEP)
    assert one.decode(b"600000000") == Refused(R.IMAGE_CORRUPT, "600000000")
    assert one.decode(b"950000000") == Refused(R.IMAGE_NEEDS_MEMORY)
    assert one.decode(b"core") == Refused(R.IMAGE_CORRUPT, "(0, 0)")


def test_a_picture_that_hangs_ends_the_process_though_nobody_looks_after_it(
    worker: Callable[[ImageConfig], DecodeProcess],
) -> None:
    """Five seconds behind the time-out, when the supervisor would have done it long before."""
    one = worker(ImageConfig(decode_timeout_s=0.1))
    one.decode(b"nothing")
    with pytest.raises(AssertionError, match="the decode process died"):
        one.told(b"hang")
    assert one.child.process.wait(timeout=20) == -signal.SIGALRM
