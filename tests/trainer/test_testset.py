from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainer import checkpoint
from trainer.evaluate import main
from trainer.model import CLIP, MODELS
from trainer.testset import open_dataset, pictures
from wit.errors import InputError
from wit.shards import ShardWriter

CASES = Path(__file__).parents[1] / "cases" / "eval"
PICTURE = (CASES / "upper" / "images" / "1_c.jpg").read_bytes()


@pytest.fixture
def run(tmp_path: Path, capsys) -> Callable[[Path], tuple[int, str, dict[str, object]]]:
    """Evaluates fresh weights on a dataset: the exit code, what was said, and the result."""
    torch.manual_seed(1)
    state = {"name": "demo", "step": 1, "state_dict": CLIP(MODELS["demo"]).state_dict()}
    checkpoint.save(str(tmp_path / "model"), state, step=1, keep=1)

    def evaluate(dataset: Path) -> tuple[int, str, dict[str, object]]:
        output = tmp_path / "result.json"
        code = main(["--checkpoint", str(tmp_path / "model"), "--dataset", str(dataset), "--output", str(output)])
        told = capsys.readouterr()
        return code, told.out + told.err, json.loads(output.read_text()) if output.exists() else {}

    return evaluate


def copied(case: str, tmp_path: Path) -> Path:
    shutil.copytree(CASES / case, tmp_path / case)
    return tmp_path / case


def write_tar(path: Path, *members: tuple[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        writer = ShardWriter(stream)
        for name, data in members:
            writer.add_member(name, data)
        writer.close()


def benchmark(folder: Path, *members: tuple[str, bytes]) -> Path:
    """A dataset of CLIP_benchmark's form with one tar."""
    write_tar(folder / "test" / "0.tar", *members)
    (folder / "test" / "nshards.txt").write_text("1\n")
    (folder / "classnames.txt").write_text("dog\ncat\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}\n")
    return folder


def test_pictures_of_every_extension_in_any_case_are_evaluated(run) -> None:
    code, _, result = run(CASES / "upper")
    assert code == 0 and (result["images"], result["corrupt"], result["left_out"]) == (4, 0, 0)


def test_what_is_no_picture_is_counted_and_named(run, tmp_path: Path) -> None:
    dataset = copied("upper", tmp_path)
    for name in ("notes.txt", "._0_a.JPEG", ".DS_Store"):
        (dataset / "images" / name).write_bytes(b"x")
    code, told, result = run(dataset)
    assert code == 0 and result["images"] == 4 and result["left_out"] == 3
    assert "no pictures by their names, left out: .DS_Store, ._0_a.JPEG, notes.txt\n" in told


@pytest.mark.parametrize(
    "case, told",
    [
        ("beyond", "test/0.tar: s0000003.cls is '3', no class number below 3"),
        ("blank", "classnames.txt line 2 is blank"),
        ("nocls", "test/0.tar: a has no a.cls"),
    ],
)
def test_labels_that_fit_no_class_are_refused_by_name(run, case: str, told: str) -> None:
    code, said, result = run(CASES / case)
    assert code == 2 and told in said and said.count("\n") == 1 and result == {}


@pytest.mark.parametrize("names", [b"dog\ncat\n\n \n", b"dog\r\ncat\r\n", b"\xef\xbb\xbfdog\ncat", b" dog \ncat\n"])
def test_what_is_blank_around_class_names_shifts_none(tmp_path: Path, names: bytes) -> None:
    dataset = copied("upper", tmp_path)
    (dataset / "classnames.txt").write_bytes(names)
    assert open_dataset(str(dataset)).classnames == ["dog", "cat"]


def test_a_name_with_an_odd_space_in_it_is_one_line(tmp_path: Path) -> None:
    dataset = copied("upper", tmp_path)
    (dataset / "classnames.txt").write_bytes("dog\u2028s\ncat\x0bs\n".encode())
    assert len(open_dataset(str(dataset)).classnames) == 2


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG", "a.PNG", "a.webp", "a.Jpeg"])
def test_a_tars_pictures_of_every_extension_are_read_and_macos_own_files_are_not(tmp_path: Path, name: str) -> None:
    members = [(f"._{name}", b"x"), (name, PICTURE), ("._a.cls", b"x"), ("a.cls", b"1\n")]
    dataset = open_dataset(str(benchmark(tmp_path / "set", *members)))
    assert [(found.data, found.label) for found in pictures(dataset)] == [(PICTURE, 1)]


@pytest.mark.parametrize("name", ["0.tar.gz", "0.tgz", "0.tar"])
def test_a_packed_tar_is_read(tmp_path: Path, name: str) -> None:
    dataset = benchmark(tmp_path / "set", ("a.jpg", PICTURE), ("a.cls", b"0"))
    plain = dataset / "test" / "0.tar"
    packed = gzip.compress(plain.read_bytes())
    plain.unlink()
    (dataset / "test" / name).write_bytes(packed)
    assert [(found.data, found.label) for found in pictures(open_dataset(str(dataset)))] == [(PICTURE, 0)]


def spoil(dataset: Path, how: str) -> None:
    test = dataset / "test"
    match how:
        case "empty tar":
            (test / "0.tar").write_bytes(b"")
        case "no members":
            write_tar(test / "0.tar")
        case "no picture":
            write_tar(test / "0.tar", ("a.txt", b"x"), ("a.cls", b"0"))
        case "negative":
            write_tar(test / "0.tar", ("a.jpg", PICTURE), ("a.cls", b"-1"))
        case "word":
            write_tar(test / "0.tar", ("a.jpg", PICTURE), ("a.cls", b"dog"))
        case "packed and cut":
            (test / "0.tar").write_bytes(gzip.compress((test / "0.tar").read_bytes())[:900])
        case "no number":
            (test / "nshards.txt").write_text("one\n")
        case "none":
            (test / "nshards.txt").write_text("0\n")
        case "missing tar":
            (test / "nshards.txt").write_text("2\n")
        case "latin-1":
            (dataset / "classnames.txt").write_bytes("Bär\ncat\n".encode("latin-1"))
        case "no names":
            (dataset / "classnames.txt").write_text("\n")


@pytest.mark.parametrize(
    "how, told",
    [
        ("empty tar", "0.tar is damaged (it is cut off"),
        ("no members", "0.tar holds no pictures"),
        ("no picture", "0.tar: a has no picture (jpg, "),
        ("negative", "a.cls is '-1', no class number below 2"),
        ("word", "a.cls is 'dog', no class number below 2"),
        ("packed and cut", "0.tar is damaged ("),
        ("no number", "nshards.txt is not the number of tars"),
        ("none", "nshards.txt is not the number of tars"),
        ("missing tar", "1.tar, where nshards.txt says 2"),
        ("latin-1", "classnames.txt is not UTF-8 (byte 1)"),
        ("no names", "classnames.txt is empty"),
    ],
)
def test_a_set_that_is_none_gets_one_sentence(run, tmp_path: Path, how: str, told: str) -> None:
    dataset = benchmark(tmp_path / "set", ("a.jpg", PICTURE), ("a.cls", b"0"))
    spoil(dataset, how)
    code, said, result = run(dataset)
    assert code == 2 and told in said and said.count("\n") == 1 and result == {}


def test_a_tar_beyond_nshards_is_named(run, tmp_path: Path) -> None:
    dataset = benchmark(tmp_path / "set", ("a.jpg", PICTURE), ("a.cls", b"0"))
    write_tar(dataset / "test" / "1.tar", ("b.jpg", PICTURE), ("b.cls", b"0"))
    code, told, result = run(dataset)
    assert code == 0 and result["images"] == 1 and "left out: 1.tar" in told


def folders(root: Path, *names: str, classnames: str | None = None, templates: str | None = None) -> Path:
    """An ImageFolder with one picture a class."""
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "x.JPEG").write_bytes(PICTURE)
    home = root.parent if root.name == "images" else root
    for file, text in (("classnames.txt", classnames), ("templates.txt", templates)):
        if text is not None:
            (home / file).write_text(text)
    return home


@pytest.mark.parametrize(
    "names, classnames, labels",
    [
        (("dog", "Cat", "great_dane"), None, {"Cat": 0, "dog": 1, "great_dane": 2}),
        (("n02", "n10", "n01"), "tench\nshark\nhen\n", {"n01": 0, "n02": 1, "n10": 2}),
        (("great_dane", "cat"), "dog\ncat\ngreat dane\n", {"cat": 1, "great_dane": 2}),
        (("10", "2", "1"), "\n".join("abcdefghijk"), {"1": 1, "10": 10, "2": 2}),
    ],
)
@pytest.mark.parametrize("place", ["set", "set/images"])
def test_a_folder_a_class_is_read(tmp_path: Path, place: str, names, classnames: str | None, labels) -> None:
    dataset = open_dataset(str(folders(tmp_path / place, *names, classnames=classnames)))
    assert {Path(path).parent.name: label for path, label in dataset.files} == labels
    assert dataset.templates == ["a photo of a {}."]
    if classnames is None:
        assert dataset.classnames == ["Cat", "dog", "great dane"]


def test_classes_of_one_name_and_classes_without_pictures_are_told(run, tmp_path: Path) -> None:
    dataset = folders(tmp_path / "set", "crane", "Crane", "dog", "owl")
    for picture in [*(dataset / "owl").iterdir()]:
        picture.unlink()
    code, told, result = run(dataset)
    assert code == 0 and (result["classes"], result["without_pictures"]) == (4, [3])
    assert "only one can ever be right, by their numbers: crane (0, 1)\n" in told
    assert "warning: 1 of 4 classes have no picture, and may be guessed all the same: owl\n" in told
    sound = folders(tmp_path / "sound", "dog", "owl")
    assert "warning" not in run(sound)[1]


def test_folders_without_texts_are_evaluated_and_other_files_in_them_named(run, tmp_path: Path) -> None:
    dataset = folders(tmp_path / "set", "dog", "cat", templates="a {}\n")
    (dataset / "cat" / "Thumbs.db").write_bytes(b"x")
    code, told, result = run(dataset)
    assert code == 0 and (result["images"], result["classes"], result["chance"]) == (2, 2, 0.5)
    assert "left out: cat/Thumbs.db\n" in told


@pytest.mark.parametrize(
    "names, classnames, told",
    [
        (("dog", "fox"), "dog\ncat\n", "2 lines for 2 folders, and none is 'fox'"),
        (("n1", "n2", "n3"), "dog\ncat\n", "2 lines for 3 folders, and none is 'n1'"),
        (("0", "2"), "dog\ncat\n", "the folder 2/ is no class number below 2"),
        (("val/dog", "val/cat"), None, "holds folders of its own"),
    ],
)
def test_folders_that_fit_no_class_names_get_one_sentence(run, tmp_path: Path, names, classnames, told: str) -> None:
    code, said, _ = run(folders(tmp_path / "set", *names, classnames=classnames))
    assert code == 2 and told in said and said.count("\n") == 1


def test_pictures_beside_folders_are_refused(run, tmp_path: Path) -> None:
    dataset = folders(tmp_path / "set" / "images", "dog", "cat")
    (dataset / "images" / "0_a.jpg").write_bytes(PICTURE)
    code, said, _ = run(dataset)
    assert code == 2 and "holds both pictures (0_a.jpg) and folders (cat/)" in said


def test_folders_of_pictures_beside_images_are_refused(tmp_path: Path) -> None:
    for name in ("blue_star", "images/red_triangle"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    with pytest.raises(InputError, match=r"holds images/ and folders of pictures beside it \(blue_star/\)"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("names", [[], ["a.jpg"]], ids=["empty", "flat"])
def test_what_is_no_dataset_is_told_of_both_layouts(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            InputError, match=r"classnames.txt, templates.txt and images/, or a folder of pictures a class"
        ):
            open_dataset(str(path))
