"""Makes the demonstration web: `python -m wit.demo.making.make_web --packages DIR` draws its pictures and writes wit/demo/assets.

Not needed by users. It wants npm, apt-get, dpkg-deb and `pip install resvg-py`; the packages stay in DIR for the next run.
`--layout-only` keeps the pictures and lays out pages, tags and answers anew, from DIR's translations. The same packages
and libraries give the same files.
"""

from __future__ import annotations

import argparse
import glob
import io
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from wit.candidates.captions import reject_caption
from wit.demo.making import drawing, layout, wording
from wit.demo.making.drawing import Drawing, Subject, encode
from wit.demo.tables import KEPT_OUT, PICTURES, SEED, load, pick, save
from wit.hashing import keyed_hash
from wit.images.config import ImageConfig
from wit.images.process import process
from wit.images.results import Processed
from wit.store import fs

NPM_PACKAGES = (
    "@iconify-json/openmoji@1.2.29",
    "@iconify-json/fluent-emoji-flat@1.2.6",
    "@iconify-json/fluent-emoji@1.2.7",
    "@iconify-json/noto-v1@1.2.5",
    "@iconify-json/emojione@1.2.3",
    "flag-icons@7.5.0",
    "@iconify-json/twemoji@1.2.5",
    "emojibase-data@17.0.0",
    "cldr-annotations-full@48.2.0",
)
DEBIAN_PACKAGES = ("openclipart-png", "openclipart-svg")  # 0.18
FORMATS = ("webp",) * 12 + ("png",) * 4 + ("jpg",) * 2 + ("gif",) * 2
STYLES = ("openmoji", "fluent-emoji-flat", "fluent-emoji", "noto-v1", "emojione")
CLIPARTS = 520
MAX_CLIPART_PX = 280
LARGE_CLIPARTS = 9
VARIANTS = 210
NEAR_BITS = 2  # of drawings whose pHashes differ by no more, only one is shown: another decoder may see them equal
KEPT_OUT_BITS = 6  # no picture so near to one of the test set is shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", required=True, help="directory for the registry packages; filled where empty")
    parser.add_argument("--layout-only", action="store_true", help="keep the pictures")
    options = parser.parse_args()
    fetch_packages(options.packages)
    subjects = drawing.subjects(options.packages)
    if not options.layout_only:
        save("pictures", draw_all(options.packages, subjects))
    pages, tags, resources = layout.build_web(load("pictures"), translations(options.packages, subjects))
    for name, table in {"pages": pages, "tags": tags, "resources": resources}.items():
        save(name, table)
    print(f"{len(load('pictures'))} pictures, {len(pages)} pages, {len(tags)} img tags, {len(resources)} URLs")


# --- packages ----------------------------------------------------------------------------------------------------------


def fetch_packages(folder: str) -> None:
    """Fetches and unpacks missing packages: npm packages under their bare name, Debian's openclipart under `openclipart`."""
    os.makedirs(folder, exist_ok=True)
    for package in NPM_PACKAGES:
        target = os.path.join(folder, package.rpartition("@")[0].rpartition("/")[2])
        if not os.path.exists(target):
            packed = run(["npm", "pack", "--silent", package], folder).split()[-1]
            run(["tar", "xzf", packed], folder)
            shutil.move(os.path.join(folder, "package"), target)
    for package in DEBIAN_PACKAGES:
        if not glob.glob(os.path.join(folder, "openclipart", "usr/share/doc", package)):
            run(["apt-get", "download", package], folder)
            run(["dpkg-deb", "-x", glob.glob(os.path.join(folder, f"{package}_*.deb"))[0], "openclipart"], folder)


def run(command: Sequence[str], folder: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def translations(packages: str, subjects: Sequence[Subject]) -> dict[str, dict[str, str]]:
    """language -> subject -> CLDR name."""
    by_language = {}
    for language in wording.FOREIGN:
        document = drawing.read_json(packages, "cldr-annotations-full", f"annotations/{language}/annotations.json")
        names = document["annotations"]["annotations"]
        spoken = {s.name: names.get(s.emoji, names.get(s.emoji.replace("\ufe0f", ""), {})).get("tts") for s in subjects}
        by_language[language] = {name: text[0] for name, text in spoken.items() if text}
    return by_language


# --- pictures ----------------------------------------------------------------------------------------------------------

Row = dict[str, Any]


def draw_all(packages: str, subjects: list[Subject]) -> pa.Table:
    """The web's pictures and the test set, by name."""
    kept_out = [row_of(drawn, "webp") for drawn in drawing.icon_drawings(packages, KEPT_OUT, KEPT_OUT, subjects)]
    emoji = [
        row_of(drawn, FORMATS[pick("format", name_of(drawn), len(FORMATS))])
        for drawn in emoji_drawings(packages, subjects)
    ]
    count = Counter(row["subject"] for row in emoji)
    emoji.sort(key=lambda row: (count[row["subject"]], keyed_hash(SEED, "order", row["picture"])))
    cliparts = list(clipart_rows(packages))
    shown = distinct([*cliparts, *emoji], kept_out)
    variants = list(variant_rows([row for row in shown if row["role"] is None and row["style"] in STYLES]))
    rows = sorted([*shown, *variants, *kept_out, *unshown_rows(cliparts)], key=lambda row: str(row["picture"]))
    return pa.Table.from_pylist(rows, PICTURES)


def emoji_drawings(packages: str, subjects: list[Subject]) -> Iterator[Drawing]:
    for style in STYLES:
        yield from drawing.icon_drawings(packages, style, style, subjects)
    yield from drawing.flag_drawings(packages, subjects)


def name_of(drawn: Drawing) -> str:
    return f"{drawn.style}/{drawn.subject}"


def row_of(drawn: Drawing, kind: str, **values: Any) -> Row:
    return picture_row(name_of(drawn), drawn.subject, drawn.image.size, kind, encode(drawn.image, kind), **values)


def picture_row(name: str, subject: str, size: tuple[int, int], kind: str, data: bytes, **values: Any) -> Row:
    row: Row = dict.fromkeys(PICTURES.names)
    row |= {"picture": f"{name}.{kind}", "style": name.partition("/")[0], "subject": subject, "format": kind}
    return {**row, "width": size[0], "height": size[1], "data": data, **values}


def phash(data: bytes) -> int:
    """The pHash by which a build finds that two pictures are the same."""
    stored = process(data, ImageConfig())
    if not isinstance(stored, Processed) or stored.phash is None:
        raise ValueError(f"a picture of the web does not decode: {stored}")
    return stored.phash


def steady(data: bytes) -> bool:
    """Whether the pHash stays the same if every pixel is off by up to two levels, as with another version of a decoder."""
    pixels = np.asarray(drawing.on_white(Image.open(io.BytesIO(data)))).astype(np.int16)
    height, width = pixels.shape[:2]
    ripple = (np.add.outer(np.arange(height) * 7, np.arange(width) * 3) % 5 - 2)[..., None]
    hashes = set()
    for off in (ripple, -ripple, ripple * 0):
        out = io.BytesIO()
        Image.fromarray((pixels + off).clip(0, 255).astype(np.uint8)).save(out, "PNG")
        hashes.add(phash(out.getvalue()))
    return hashes == {phash(data)}


def distinct(rows: Iterable[Row], kept_out: Sequence[Row]) -> list[Row]:
    """The rows whose picture is far enough from every earlier one, and from all of the test set, by pHash."""
    banned = np.array([phash(row["data"]) for row in kept_out], np.uint64)
    taken: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
    kept = []
    for row in rows:
        value = np.uint64(phash(row["data"]))
        if (np.bitwise_count(taken ^ value) <= NEAR_BITS).any() or (
            np.bitwise_count(banned ^ value) <= KEPT_OUT_BITS
        ).any():
            continue
        taken = np.append(taken, value)
        kept.append(row)
    return kept


def variant_rows(rows: Sequence[Row]) -> Iterator[Row]:
    """Some pictures again, in another format or size, if a build sees the same picture in both (equal pHash)."""
    made = 0
    for row in sorted(rows, key=lambda row: keyed_hash(SEED, "variant", row["picture"])):
        image = drawing.on_white(Image.open(io.BytesIO(row["data"])))
        others = [kind for kind in ("jpg", "webp", "png", "gif") if kind != row["format"]]
        kind = others[pick("kind", row["picture"], 3)]
        if pick("resized", row["picture"], 2) == 0:
            image = image.resize((image.width * 3 // 2, image.height * 3 // 2), Image.Resampling.LANCZOS)
        data = encode(image, kind, quality=85, colors=128)
        if data != row["data"] and phash(data) == phash(row["data"]) and steady(data) and steady(row["data"]):
            name = row["picture"].rsplit(".", 1)[0] + "@again"
            yield picture_row(name, row["subject"], image.size, kind, data, original=row["picture"])
            made += 1
        if made == VARIANTS:
            return


# --- openclipart -------------------------------------------------------------------------------------------------------

CLIPART = "openclipart/usr/share/openclipart"
SKIPPED = ("logos", "computer", "shapes", "special", "buttons", "signs_and_symbols", "unsorted")  # marks, icons, series
SKIPPED_WORDS = frozenset(
    [
        "clipart",
        "sony",
        "gameboy",
        "cobra",
        "skoda",
        "bomb",
        "gun",
        "gallows",
        "chav",
        "thongs",
        "cannabis",
        "icons",
        "profile",
    ]
)
SUFFIXES = ("clip art", "drawing", "picture", "line art", "illustration")
ROLES = ("logo",) * len(layout.PAGE_HOSTS) + ("good",) * 20


def clipart_rows(packages: str) -> Iterator[Row]:
    """Pictures of openclipart with their titles: a few large ones, some in odd encodings, most of ordinary size."""
    chosen = sorted(
        titled_cliparts(packages), key=lambda titled: keyed_hash(SEED, "clipart", os.path.basename(titled[0]))
    )
    for number, (path, title) in enumerate(chosen[:CLIPARTS]):
        image = Image.open(io.BytesIO(fs.read_bytes(path)))
        stem = os.path.splitext(os.path.basename(path))[0].strip("_-. ")
        role = ROLES[number] if number < len(ROLES) else None
        if number >= CLIPARTS - LARGE_CLIPARTS:
            yield large_row(image, stem, title)
        elif number >= CLIPARTS - LARGE_CLIPARTS - len(ODD):
            yield odd_row(ODD[CLIPARTS - LARGE_CLIPARTS - 1 - number], image, stem, title)
        else:
            shown = fitted(drawing.on_white(image), MAX_CLIPART_PX if role is None else 96)
            kind = "png" if role else FORMATS[pick("format", stem, len(FORMATS))]
            data = encode(shown, kind, quality=78, colors=64)
            yield picture_row(f"openclipart/{stem}", stem, shown.size, kind, data, title=title, role=role)


def titled_cliparts(packages: str) -> Iterator[tuple[str, str]]:
    """(path of the PNG, caption) of every picture with a title of its own that a build is sure to keep."""
    root = os.path.join(packages, CLIPART)
    paths = sorted(glob.glob(f"{root}/svg/**/*.svg", recursive=True))
    titles = {
        path: svg_title(path) for path in paths if os.path.relpath(path, f"{root}/svg").split("/")[0] not in SKIPPED
    }
    common = Counter(titles.values())
    stems = set()
    for path, title in titles.items():
        png = f"{root}/png/{os.path.relpath(path, f'{root}/svg').removesuffix('.svg')}.png"
        stem = os.path.basename(png).lower()
        if common[title] > 2 or not usable_title(title) or stem in stems or not os.path.exists(png):
            continue
        caption = f"{title} {SUFFIXES[pick('suffix', stem, len(SUFFIXES))]}"
        if sure_caption(caption) and usable_size(png):
            stems.add(stem)
            yield png, caption


def svg_title(path: str) -> str:
    try:
        title = ET.fromstring(fs.read_bytes(path)).find(".//{http://purl.org/dc/elements/1.1/}title")
    except ET.ParseError:
        return ""
    text = " ".join((title.text or "").replace("_", " ").split()) if title is not None else ""
    return text.rstrip("0123456789. ")


def usable_title(title: str) -> bool:
    words = title.split()
    if SKIPPED_WORDS.intersection(title.lower().split()):
        return False
    return 1 <= len(words) <= 7 and title.isascii() and title.replace(" ", "").replace("-", "").isalpha()


def sure_caption(text: str) -> bool:
    """Whether a caption passes every filter of captions and languages."""
    return reject_caption(text) is None and wording.certain_english([text])[0]


def usable_size(png: str) -> bool:
    """Whether a picture is neither tiny nor huge nor a strip, so that no filter of size or shape objects."""
    try:
        width, height = Image.open(io.BytesIO(fs.read_bytes(png))).size
    except (Image.DecompressionBombError, OSError):
        return False
    return min(width, height) >= 64 and max(width, height) <= 1.8 * min(width, height) and width * height < 4_000_000


def fitted(image: Image.Image, side_px: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return small


def large_row(image: Image.Image, stem: str, title: str) -> Row:
    """The picture enlarged to a long side of 800 to 2,000 px."""
    side = 800 + 150 * pick("large", stem, 9)
    scale = side / max(image.size)
    large = drawing.on_white(image).resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
    )
    kind = ("jpg", "png", "webp")[pick("large kind", stem, 3)]
    return picture_row(
        f"openclipart/{stem}", stem, large.size, kind, encode(large, kind, quality=60, colors=16), title=title
    )


ODD = ("cmyk", "gray", "deep", "alpha", "turned", "animated gif", "animated webp", "progressive", "palette alpha")


def odd_row(how: str, image: Image.Image, stem: str, title: str) -> Row:
    """The picture in an encoding that decoders get wrong: CMYK, 16 bit, transparency, EXIF orientation, animation."""
    small = fitted(image.convert("RGBA"), 120)
    paper, out = drawing.on_white(small), io.BytesIO()
    frames = {"save_all": True, "append_images": [paper.rotate(90), paper.rotate(180)], "duration": 200}
    kind = {"animated gif": "gif", "animated webp": "webp"}.get(how, "jpg")
    match how:
        case "cmyk":
            paper.convert("CMYK").save(out, "JPEG", quality=80)
        case "gray":
            paper.convert("L").save(out, "JPEG", quality=80)
        case "deep":
            deep = np.asarray(paper.convert("L")).astype(np.uint16) * 257
            Image.fromarray(deep).save(out, "PNG")
            kind = "png"
        case "alpha":
            small.save(out, "PNG", optimize=True)
            kind = "png"
        case "palette alpha":
            small.quantize(64, method=Image.Quantize.FASTOCTREE).save(out, "PNG", optimize=True)
            kind = "png"
        case "turned":
            exif = Image.Exif()
            exif[0x0112] = 6  # Orientation: turn by 90 degrees to see it upright
            paper.rotate(90, expand=True).save(out, "JPEG", quality=80, exif=exif)
        case "progressive":
            paper.save(out, "JPEG", quality=80, progressive=True)
        case _:
            paper.save(out, kind.upper(), **frames)
    return picture_row(f"openclipart/{stem}", stem, paper.size, kind, out.getvalue(), title=title)


def unshown_rows(cliparts: Sequence[Row]) -> Iterator[Row]:
    """Pictures that no build keeps: a spacer, pictures below every size limit, strips, files to be cut short."""
    yield picture_row("special/spacer", "spacer", (1, 1), "gif", encode(Image.new("RGB", (1, 1)), "gif"), role="spacer")
    plain = [row for row in cliparts if row["role"] is None]
    for number, size in enumerate([(1, 1), (8, 8), (16, 16), (16, 16), (24, 24), (20, 30), (30, 20), (26, 26)]):
        image = drawing.on_white(Image.open(io.BytesIO(plain[number]["data"]))).resize(size)
        kind = ("png", "gif", "webp", "jpg")[number % 4]
        yield picture_row(f"special/tiny-{number}", "tiny", size, kind, encode(image, kind), role="tiny")
    for number, size in enumerate([(400, 60), (60, 240), (330, 100)]):
        image = drawing.on_white(Image.open(io.BytesIO(plain[number + 10]["data"]))).resize(size)
        yield picture_row(f"special/strip-{number}", "strip", size, "png", encode(image, "png"), role="strip")
    for number in range(6):
        image = fitted(drawing.on_white(Image.open(io.BytesIO(plain[number + 20]["data"]))), 200)
        kind = ("jpg", "png")[number % 2]
        data = encode(image, kind, quality=85, colors=64)
        yield picture_row(f"special/cut-{number}", "cut", image.size, kind, data, role="cut")


if __name__ == "__main__":
    main()
