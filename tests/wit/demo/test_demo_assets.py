"""What the demonstration web holds: sizes, counts, formats, styles; and that its pictures are what the tables say."""

import io
import os
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from wit import demo
from wit.demo import tables
from wit.demo.making import wording
from wit.demo.making.drawing import on_white, spoken_name
from wit.demo.making.layout import HOSTS
from wit.demo.making.make_web import KEPT_OUT_BITS, phash
from wit.demo.zero_shot import main, zero_shot_set
from wit.images import hashes
from wit.images.config import ImageConfig
from wit.images.process import process
from wit.images.results import Processed

STYLES = ("openmoji", "fluent-emoji", "fluent-emoji-flat", "noto-v1", "emojione")


@pytest.fixture(scope="module")
def pictures():
    return tables.load("pictures").to_pylist()


@pytest.fixture(scope="module")
def tags():
    return demo.truth().to_pylist()


def test_assets_stay_small_enough_for_git():
    sizes = {name: os.path.getsize(os.path.join(tables.ASSETS, name)) for name in os.listdir(tables.ASSETS)}
    assert sum(sizes.values()) < 13_000_000, sizes


def test_the_web_is_as_large_as_promised(tags):
    pages = tables.load("pages").to_pylist()
    assert len(pages) >= 1_500
    assert len({page["page_url"].split("/")[2] for page in pages}) >= 4
    assert len(tags) >= 6_000
    assert len(HOSTS) >= 4


def test_pictures_come_in_four_formats_from_32_to_2000_px(pictures):
    shown = [row for row in pictures if row["style"] != tables.KEPT_OUT and row["role"] not in ("tiny", "spacer")]
    formats = Counter(row["format"] for row in shown)
    assert min(formats[kind] for kind in ("jpg", "png", "webp", "gif")) > 300
    longest = [max(row["width"], row["height"]) for row in shown]
    assert min(longest) == 32
    assert 1_500 < max(longest) <= 2_000


def test_every_picture_has_the_format_and_size_that_its_row_says(pictures):
    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}
    for row in pictures:
        with Image.open(io.BytesIO(row["data"])) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            size = image.size[::-1] if turned else image.size
            assert (image.format, *size) == (kinds[row["format"]], row["width"], row["height"]), row["picture"]


def test_names_are_drawn_in_several_styles_and_once_in_the_style_kept_out(pictures):
    emoji = Counter(row["subject"] for row in pictures if row["style"] == tables.KEPT_OUT)
    assert len(emoji) > 1_850 and set(emoji.values()) == {1}
    styles = Counter(row["style"] for row in pictures if row["original"] is None)
    assert all(styles[style] > 1_000 for style in STYLES), styles
    drawn = Counter(row["subject"] for row in pictures if row["subject"] in emoji and row["style"] != tables.KEPT_OUT)
    assert sum(drawn[name] >= 3 for name in emoji) > 0.8 * len(emoji)


def test_the_style_kept_out_is_served_nowhere(pictures):
    style_of = {row["picture"]: row["style"] for row in pictures}
    served = {style_of[name] for name in tables.load("resources")["picture"].to_pylist() if name}
    assert tables.KEPT_OUT not in served and served >= set(STYLES)


def thumbnail(row, side_px: int, mode: str) -> npt.NDArray[np.float32]:
    with Image.open(io.BytesIO(row["data"])) as image:
        small = on_white(image).convert(mode).resize((side_px, side_px), Image.Resampling.LANCZOS)
        return np.asarray(small, np.float32)


def test_no_picture_of_the_web_is_near_one_of_the_test_set(pictures):
    """A quick hash says which pairs may be near, the build's own whether they are."""
    kept_out = [row for row in pictures if row["style"] == tables.KEPT_OUT]
    shown = [row for row in pictures if row["style"] != tables.KEPT_OUT and row["role"] is None]
    quick = np.array([hashes.phash(thumbnail(row, 32, "L")) for row in kept_out], np.uint64)
    seen = 0
    for row in shown:
        bits = np.bitwise_count(quick ^ np.uint64(hashes.phash(thumbnail(row, 32, "L"))))
        for number in np.flatnonzero(bits <= KEPT_OUT_BITS + 2):
            seen += 1
            apart = (phash(row["data"]) ^ phash(kept_out[number]["data"])).bit_count()
            assert apart > KEPT_OUT_BITS, (row["picture"], kept_out[number]["picture"])
    assert seen > 3  # or the quick hash finds nothing


def pixels_of(pictures, style: str, names: set[str]) -> dict[str, npt.NDArray[np.float32]]:
    rows = [row for row in pictures if row["style"] == style and row["subject"] in names and row["original"] is None]
    return {row["subject"]: thumbnail(row, 16, "RGB").ravel() for row in rows}


def told_apart(one: dict[str, npt.NDArray[np.float32]], other: dict[str, npt.NDArray[np.float32]]) -> float:
    """Of the pictures of one style that the other draws too: how many are nearest, of all, to the other's of their name."""
    both, names = [name for name in other if name in one], list(other)
    left, right = np.stack([one[name] for name in both]), np.stack([other[name] for name in names])
    nearest = (np.square(right).sum(axis=1) - 2 * left @ right.T).argmin(axis=1)
    return float(np.mean([name == names[at] for name, at in zip(both, nearest, strict=True)]))


def test_the_style_kept_out_has_no_sibling_on_the_web(pictures):
    """Two styles of one house are told apart by a measure that must not find such a pair for the style kept out."""
    emoji = sorted(row["subject"] for row in pictures if row["style"] == tables.KEPT_OUT)
    names = {name for name in emoji if not name.startswith("flag of ")}
    drawn = {style: pixels_of(pictures, style, names) for style in (*STYLES, tables.KEPT_OUT)}
    assert told_apart(drawn["fluent-emoji"], drawn["fluent-emoji-flat"]) > 0.8
    found = {style: told_apart(drawn[tables.KEPT_OUT], drawn[style]) for style in STYLES}
    assert max(found.values()) < 0.3, found


def test_variants_and_only_they_are_duplicates_for_a_build(pictures):
    """Hashes them as a build does, with one in six of the others; the end-to-end test compares them all."""
    skipped = ("tiny", "spacer", "cut", "strip")
    shown = [row for row in pictures if row["style"] != tables.KEPT_OUT and row["role"] not in skipped]
    twice = {row["original"] for row in shown if row["original"]}
    by_hash: dict[int, set[str]] = {}
    hashed = {row["picture"]: row for row in shown[::6]} | {
        row["picture"]: row for row in shown if row["original"] or row["picture"] in twice
    }
    for row in hashed.values():
        found = process(row["data"], ImageConfig())
        assert isinstance(found, Processed) and found.phash is not None, (row["picture"], found)
        by_hash.setdefault(found.phash, set()).add(row["original"] or row["picture"])
    assert len(twice) > 150
    assert [names for names in by_hash.values() if len(names) > 1] == []
    assert len(by_hash) == len({row["original"] or row["picture"] for row in hashed.values()})


def test_captions_are_in_many_languages_and_mostly_english(tags):
    languages = Counter(page["language"] for page in tables.load("pages").to_pylist())
    assert len(languages) >= 8
    assert languages["en"] > 0.7 * sum(languages.values())
    assert wording.FOREIGN.keys() | {"en"} == set(languages)


@pytest.mark.parametrize(
    "label, name",
    [
        ("grinning face", "grinning face"),
        ("flag: Cape Verde", "flag of Cape Verde"),
        ("flag: Cocos (Keeling) Islands", "flag of Cocos Islands"),
        ("flag: Antigua & Barbuda", "flag of Antigua and Barbuda"),
        ("man: bald", "bald man"),
        ("woman: red hair", "woman with red hair"),
        ("family: man, woman, boy", "family of man, woman and boy"),
        ("keycap: #", "keycap hash"),
        ("keycap: 10", "keycap ten"),
        ("Japanese “here” button", "Japanese here button"),
        ("twelve o’clock", "twelve o'clock"),
        ("person walking: facing right", "person walking facing right"),
    ],
)
def test_labels_become_names_as_one_says_them(label, name):
    assert spoken_name(label) == name


@pytest.mark.parametrize(
    "name, said",
    [
        ("red apple", "a red apple"),
        ("orange", "an orange"),
        ("glasses", "glasses"),
        ("flag of Chad", "the flag of Chad"),
        ("Statue of Liberty", "Statue of Liberty"),
    ],
)
def test_names_get_their_article(name, said):
    assert wording.with_article(name) == said


def test_the_zero_shot_set_is_laid_out_as_documented(tmp_path):
    zero_shot_set(str(tmp_path))
    names = (tmp_path / "classnames.txt").read_text().splitlines()
    files = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert len(names) == len(set(names)) == len(files)
    assert [int(name.split("_")[0]) for name in files] == list(range(len(names)))
    groups = dict(zip(names, (tmp_path / "groups.txt").read_text().splitlines(), strict=True))
    assert (groups["flag of Chad"], groups["flag in hole"], groups["fox"]) == (
        "flags",
        "all but flags",
        "all but flags",
    )
    assert all(template.count("{}") == 1 for template in (tmp_path / "templates.txt").read_text().splitlines())
    apple = names.index("red apple")
    with Image.open(tmp_path / "images" / f"{apple:04}_0.webp") as image:
        assert image.size == (64, 64)


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["/proc/x/set"], 2, "error: No such file or directory"),
        (["taken/set"], 2, "choose another path"),
        (["--helq"], 2, "error: unknown option --helq"),
        (["--help"], 0, "usage: python -m wit.demo.zero_shot"),
        ([], 2, "usage: python -m wit.demo.zero_shot"),
    ],
)
def test_a_place_that_takes_no_zero_shot_set_and_a_call_for_help_write_nothing(
    arguments, code, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    try:
        assert main(arguments) == code
    except SystemExit as left:  # argparse's
        assert left.code == code
    found = capsys.readouterr()
    assert said in found.out + found.err and "Traceback" not in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
