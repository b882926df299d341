"""Draws the demonstration web's pictures from registry packages: only `make_web` runs this, users never do.

Each package lies unpacked in a directory of its own; the result is one Arrow table of encoded pictures. SVG is rendered by resvg
(`pip install resvg-py`), which needs no system library and draws the same pixels everywhere.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from wit.demo.tables import KEPT_OUT, pick
from wit.store import fs

SIDE_PX = 64  # a drawing: about 750 bytes as lossy WebP, so that 9,000 of them stay below 8 MB


@dataclass(frozen=True, slots=True)
class Subject:
    """One base emoji: its English name, and the character by which every package knows it."""

    name: str
    label: str
    emoji: str
    code: str  # hexadecimal code points without variation selectors, joined by "-"


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing as rendered, on white, before any encoding."""

    style: str
    subject: str
    image: Image.Image


def slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").replace("’", "").replace(".", "")).strip("-")


def spoken_name(label: str) -> str:
    """A CLDR label as people say it: "flag: Cape Verde" becomes "flag of Cape Verde", "man: bald" becomes "bald man"."""
    text = label.replace("’", "'").replace("&", "and").replace(" SAR China", "").replace(": facing", " facing")
    text = re.sub(r"[“”!#*]|\s*\((Keeling|Burma)\)| - ", lambda m: " " if m[0] == " - " else "", text)
    text = text.replace("U.S.", "US").replace("(blood type)", "for blood type")
    head, colon, rest = text.partition(": ")
    if not colon:
        return {"keycap:": "keycap hash"}.get(text, " ".join(text.split()))
    if head == "keycap":
        return f"keycap {KEYCAPS.get(label.partition(': ')[2], rest)}"
    if rest == "bald":
        return f"bald {head}"
    *first, last = rest.split(", ")
    listed = f"{', '.join(first)} and {last}" if first else last
    joint = {"flag": "of", "person": "with", "man": "with", "woman": "with"}.get(head, "of")
    return f"{head} {joint} {listed}"


KEYCAPS = dict(
    zip(
        ["#", "*", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
        ["hash", "asterisk", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
        strict=True,
    )
)


def subjects(packages: str) -> list[Subject]:
    """Every base emoji (no skin tones, no components) that the kept-out style draws, by name."""
    known = {plain_code(code) for code in read_json(packages, KEPT_OUT, "chars.json")}
    by_name: dict[str, Subject] = {}
    for entry in read_json(packages, "emojibase-data", "en/data.json"):
        code = plain_code(entry["hexcode"])
        if entry.get("group") in (None, 2) or code not in known:  # 2: components such as skin tones
            continue
        name = spoken_name(entry["label"])
        if name in by_name:
            raise ValueError(f"two emoji are called {name}: {by_name[name].label} and {entry['label']}")
        by_name[name] = Subject(name, entry["label"], entry["emoji"], code)
    return [by_name[name] for name in sorted(by_name)]


def plain_code(code: str) -> str:
    return re.sub(r"(?i)-fe0f", "", code).upper()


def read_json(packages: str, package: str, name: str) -> Any:
    return json.loads(fs.read_bytes(fs.join(packages, package, name)))


def icon_drawings(packages: str, package: str, style: str, wanted: list[Subject]) -> Iterator[Drawing]:
    """The drawings of the wanted subjects in an Iconify set, found by character if the set lists it, else by slug."""
    icons = read_json(packages, package, "icons.json")
    path = fs.join(packages, package, "chars.json")
    chars = json.loads(fs.read_bytes(path)) if fs.exists(path) else {}
    by_code = {plain_code(code): name for code, name in sorted(chars.items())}
    for subject in wanted:
        name = by_code.get(subject.code, slug(subject.label))
        icon = icons["icons"].get(icons.get("aliases", {}).get(name, {}).get("parent", name))
        if icon is not None:
            yield Drawing(style, subject.name, render(icon_svg(icon, icons), *(2 * [side_px(style, subject.name)])))


def side_px(style: str, name: str) -> int:
    """The side in pixels: 64 for nine of the web's drawings in ten, else 32 to 128; always 64 for the test set."""
    if style == KEPT_OUT or pick("odd side", f"{style}/{name}", 10):
        return SIDE_PX
    return (32, 48, 96, 128)[pick("side", f"{style}/{name}", 4)]


def icon_svg(icon: dict[str, Any], icons: dict[str, Any]) -> str:
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'


def render(svg: str, width: int, height: int) -> Image.Image:
    resvg = importlib.import_module("resvg_py")
    png = resvg.svg_to_bytes(svg_string=svg, width=width, height=height, background="white", skip_system_fonts=True)
    data = base64.b64decode(png) if isinstance(png, str) else bytes(png)
    return Image.open(io.BytesIO(data)).convert("RGB")


def flag_drawings(packages: str, wanted: list[Subject]) -> Iterator[Drawing]:
    """The flags of the flag-icons package in both its shapes, by the country code in the emoji; subdivisions as gb-eng."""
    for shape, size, style in (("4x3", (80, 60), "flag-icons"), ("1x1", (64, 64), "flag-icons-square")):
        for subject in wanted:
            country = flag_code(subject.code)
            path = fs.join(packages, "flag-icons", f"flags/{shape}/{country}.svg")
            if country and fs.exists(path):
                yield Drawing(style, subject.name, render(fs.read_bytes(path).decode(), *size))


def flag_code(code: str) -> str:
    points = [int(part, 16) for part in code.split("-")]
    if all(0x1F1E6 <= p <= 0x1F1FF for p in points):
        return "".join(chr(p - 0x1F1E6 + ord("a")) for p in points)
    tags = "".join(chr(p - 0xE0000) for p in points if 0xE0061 <= p <= 0xE007A)
    return f"{tags[:2]}-{tags[2:]}" if tags else ""


def on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def encode(image: Image.Image, kind: str, *, quality: int = 72, colors: int = 48) -> bytes:
    """The picture as jpg, png or gif (with a small palette) or webp."""
    out = io.BytesIO()
    match kind:
        case "jpg":
            image.save(out, "JPEG", quality=quality, optimize=True)
        case "png":
            image.quantize(colors).save(out, "PNG", optimize=True)
        case "gif":
            image.quantize(colors).save(out, "GIF")
        case "webp":
            image.save(out, "WEBP", quality=quality, method=6)
        case _:
            raise ValueError(f"no such format: {kind}")
    return out.getvalue()
