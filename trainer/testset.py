"""The data of a zero-shot evaluation: pictures with the numbers of their classes, names of the classes, and prompts.

Three layouts are read, locally and from object stores:

    classnames.txt templates.txt images/<class number>_<anything>.jpg        class numbers count from 0
    [classnames.txt] [templates.txt] [images/]<class folder>/<anything>.jpg  torchvision's ImageFolder
    classnames.txt zeroshot_classification_templates.txt test/nshards.txt test/N.tar[.gz]   CLIP_benchmark's, with
                                                                             KEY.jpg and KEY.cls, {c} for the name

groups.txt beside classnames.txt, if it is there, names the group of each class, one a line.

A dataset that does not fit is refused in one sentence: an accuracy over the wrong classes or pictures would look like any other.
Files that are no pictures are left out and named.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from wit.records import InputError
from wit.shards import SAMPLE_EXTENSIONS, Member, is_sample_file, iter_members, split_name
from wit.store import fs

# torchvision's IMG_EXTENSIONS, and two more that Pillow reads
PICTURES = (*SAMPLE_EXTENSIONS, "ppm", "pgm")
PROMPT = "a photo of a {}."  # CLIP section 3.1.4: for an ImageFolder without templates.txt
TEXTS = ("classnames.txt", "templates.txt", "groups.txt")
PARTS = "a dataset has classnames.txt, templates.txt and images/, or a folder of pictures a class (ImageFolder)"


@dataclass(frozen=True)
class Dataset:
    """A dataset of either kind: `files` for pictures in files, `tars` for pictures in tars."""

    name: str
    classnames: list[str]
    templates: list[str]  # with {} for the name
    files: list[tuple[str, int]]  # path and class of each picture
    tars: list[str]  # or tars of pictures with their .cls
    left_out: tuple[str, ...] = ()  # files that are no pictures by their names, or tars beyond nshards.txt
    groups: tuple[str, ...] = ()  # of each class, or none


def open_dataset(path: str) -> Dataset:
    """The dataset in a directory; raises InputError where there is none, or it does not fit together."""
    if not fs.is_dir(path):
        raise InputError(f"no such dataset: {path}; {PARTS}")
    foreign = fs.exists(fs.join(path, "zeroshot_classification_templates.txt"))
    dataset = open_clip_benchmark(path) if foreign else open_pictures(path)
    if bad := [template for template in dataset.templates if "{}" not in template]:
        raise InputError(f"the template {bad[0]!r} of {path} has no {{}} for the class name; add it")
    if not dataset.templates or not (dataset.files or dataset.tars):
        raise InputError(f"{path} has no templates or no images; it needs both")
    return dataclasses.replace(dataset, groups=read_groups(path, len(dataset.classnames)))


def read_groups(path: str, classes: int) -> tuple[str, ...]:
    """The group of each class; empty where the dataset has no groups.txt."""
    file = fs.join(path, "groups.txt")
    groups = tuple(read_lines(file)) if fs.exists(file) else ()
    if groups and len(groups) != classes:
        raise InputError(
            f"{file} has {len(groups)} lines for {classes} classes; give one group a line, one line a class"
        )
    if "" in groups:
        raise InputError(f"{file} line {groups.index('') + 1} is blank: every line names the group of a class")
    return groups


def read_lines(path: str) -> list[str]:
    """The stripped lines of a UTF-8 file, with or without a byte order mark; blank lines at its end are left out."""
    if not fs.exists(path):
        raise InputError(f"no such file: {path}; {PARTS}")
    try:
        text = fs.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    return [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []


def read_classnames(path: str) -> list[str]:
    """The class names, one a line. Raises InputError for a blank line among them: the names after it would have wrong numbers."""
    names = read_lines(path)
    if not names:
        raise InputError(f"{path} is empty: write the name of a class on each line")
    if "" in names:
        raise InputError(f"{path} line {names.index('') + 1} is blank: every line names a class; name it, or remove it")
    return names


def read_templates(path: str) -> list[str]:
    """The templates, one a line; blank lines are left out."""
    return [line for line in read_lines(path) if line]


def is_picture(name: str) -> bool:
    """Whether a file is a picture, by its name; not if it begins with a dot (macOS writes `._x.jpg` beside `x.jpg`)."""
    return not name.startswith(".") and name.rpartition(".")[2].lower() in PICTURES and "." in name


def open_pictures(path: str) -> Dataset:
    """The dataset of numbered pictures in images/, or of a folder a class, in images/ or beside the texts."""
    images = fs.join(path, "images")
    root = images if fs.is_dir(images) else path
    if root == images:
        refuse_folders_beside(path)
    entries = fs.list_sizes(root)
    folders = [name for name, size in entries.items() if size is None and not name.startswith((".", "__"))]
    names = [name for name, size in entries.items() if size is not None and not (root == path and name in TEXTS)]
    pictures = [name for name in names if is_picture(name)]
    if folders and pictures:
        raise InputError(
            f"{root} holds both pictures ({pictures[0]}) and folders ({folders[0]}/): leave one kind there"
        )
    others = tuple(name for name in names if not is_picture(name))
    return open_folders(path, root, folders, others) if folders else open_numbered(path, root, pictures, others)


def refuse_folders_beside(path: str) -> None:
    """Raises InputError where folders of pictures stand beside images/, which may then be a class of that name."""
    folders = [name for name, size in fs.list_sizes(path).items() if size is None and name != "images"]
    classes = [name for name in folders if any(map(is_picture, fs.list_dir(fs.join(path, name))))]
    if classes:
        raise InputError(
            f"{path} holds images/ and folders of pictures beside it ({classes[0]}/): leave one kind there"
        )


def open_numbered(path: str, root: str, pictures: list[str], others: tuple[str, ...]) -> Dataset:
    """The dataset of pictures whose names begin with their class number."""
    classnames = read_classnames(fs.join(path, "classnames.txt"))
    files = [(fs.join(root, name), class_of(fs.join(root, name), len(classnames))) for name in pictures]
    templates = read_templates(fs.join(path, "templates.txt"))
    return Dataset(fs.name_of(path), classnames, templates, files, [], others)


def class_of(path: str, classes: int) -> int:
    """The class number at the beginning of a file's name; raises InputError where there is none below `classes`."""
    number = fs.name_of(path).split("_", 1)[0]
    if not is_number(number) or int(number) >= classes:
        raise InputError(
            f"{path} does not begin with a class number below {classes}, the lines of classnames.txt, and an underscore"
        )
    return int(number)


def is_number(text: str) -> bool:
    """Whether the text is a number of at most nine ASCII digits."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def open_folders(path: str, root: str, folders: list[str], others: tuple[str, ...]) -> Dataset:
    """The dataset of an ImageFolder. Classes are numbered in the sorted order of their folders, as in torchvision, unless there
    is a classnames.txt (`number_folders`)."""
    texts = [fs.join(path, name) for name in TEXTS]
    given = read_classnames(texts[0]) if fs.exists(texts[0]) else None
    numbers = number_folders(folders, given, texts[0])
    files, left_out = [], list(others)
    for name in fs.find(root):
        folder, _, rest = name.partition("/")
        if folder not in numbers or not rest:
            continue
        if "/" in rest and is_picture(fs.name_of(rest)):
            raise InputError(
                f"{root}/{folder} holds folders of its own ({name}): give the directory of the classes' folders"
            )
        if is_picture(rest):
            files.append((fs.join(root, name), numbers[folder]))
        else:
            left_out.append(name)
    templates = read_templates(texts[1]) if fs.exists(texts[1]) else [PROMPT]
    return Dataset(fs.name_of(path), given or [spoken(f) for f in folders], templates, files, [], tuple(left_out))


def spoken(folder: str) -> str:
    """The class name that a folder stands for, `_` read as a space."""
    return folder.replace("_", " ")


def number_folders(folders: list[str], classnames: list[str] | None, where: str) -> dict[str, int]:
    """{folder: class}. With classnames.txt, all folders have names of classes, or all have numbers of classes; or else there
    are as many folders as lines, and the sorted folders are the lines in order. Raises InputError where none of these holds."""
    if classnames is None:
        return {folder: i for i, folder in enumerate(folders)}
    by_name = {name: i for i, name in reversed(list(enumerate(classnames)))}
    named = {f: by_name[name] for f in folders for name in (f, spoken(f)) if name in by_name}
    if len(named) == len(folders):
        return named
    if all(is_number(folder) for folder in folders):
        if beyond := [folder for folder in folders if int(folder) >= len(classnames)]:
            raise InputError(
                f"the folder {beyond[0]}/ is no class number below {len(classnames)}, the lines of {where}"
            )
        return {folder: int(folder) for folder in folders}
    if named or len(folders) != len(classnames):
        unknown = next(folder for folder in folders if folder not in named)
        raise InputError(
            f"{where} has {len(classnames)} lines for {len(folders)} folders, and none is {unknown!r}: name every folder "
            "there, or write one line a folder in their sorted order"
        )
    return {folder: i for i, folder in enumerate(folders)}


def open_clip_benchmark(path: str) -> Dataset:
    """The dataset of a directory in CLIP_benchmark's form."""
    templates = read_templates(fs.join(path, "zeroshot_classification_templates.txt"))
    folder = fs.join(path, "test")
    tars, left_out = list_tars(folder, read_count(fs.join(folder, "nshards.txt")))
    return Dataset(
        fs.name_of(path),
        read_classnames(fs.join(path, "classnames.txt")),
        [template.replace("{c}", "{}") for template in templates],
        files=[],
        tars=tars,
        left_out=left_out,
    )


def read_count(path: str) -> int:
    """The number of tars in nshards.txt; raises InputError for anything but one number above 0."""
    lines = read_lines(path)
    if len(lines) != 1 or not is_number(lines[0]) or int(lines[0]) == 0:
        raise InputError(f"{path} is not the number of tars beside it: write how many there are, as 1")
    return int(lines[0])


def list_tars(folder: str, count: int) -> tuple[list[str], tuple[str, ...]]:
    """(the tars 0 to `count` - 1, plain or packed; the names of other files). Raises InputError for a missing tar."""
    listed = fs.list_dir(folder)  # empty where a store lists nothing: then each is asked for
    tars = []
    for number in range(count):
        names = [f"{number}{end}" for end in (".tar", ".tar.gz", ".tgz")]
        there = [n for n in names if (n in listed if listed else fs.exists(fs.join(folder, n)))]
        if not there:
            raise InputError(
                f"no such file: {folder}/{names[0]}, where nshards.txt says {count}: put it there, or mend that"
            )
        tars.append(there[0])
    left_out = tuple(name for name in listed if name not in (*tars, "nshards.txt"))
    return [fs.join(folder, name) for name in tars], left_out


class Picture(NamedTuple):
    """One picture of a dataset: its bytes, its class, and the path of its file, or of its tar with the key behind it."""

    data: bytes
    label: int
    name: str


def pictures(dataset: Dataset) -> Iterator[Picture]:
    """Every picture in order; raises InputError for a sample of a tar that has no picture, or no class."""
    for path, label in dataset.files:
        yield Picture(fs.read_bytes(path), label, path)
    for path in dataset.tars:
        members = (member for member in iter_members(path) if is_sample_file(member.name))
        samples = itertools.groupby(members, key=lambda member: split_name(member.name)[0])
        empty = True
        for key, group in samples:
            empty = False
            yield picture_of(path, key, group, len(dataset.classnames))
        if empty:
            raise InputError(f"{path} holds no pictures: its samples are KEY.jpg with KEY.cls")


def picture_of(path: str, key: str, members: Iterable[Member], classes: int) -> Picture:
    """The picture of one sample in a tar; raises InputError where it has no picture, or no class below `classes`."""
    files = {split_name(member.name)[1]: member.data for member in members}
    picture = next((files[form] for form in PICTURES if form in files), None)
    if picture is None:
        raise InputError(f"{path}: {key} has no picture ({', '.join(PICTURES)}), but {', '.join(sorted(files))}")
    if "cls" not in files:
        raise InputError(
            f"{path}: {key} has no {key}.cls, the number of its class: a set to train on is no set to test on"
        )
    label = files["cls"].decode("utf-8", errors="replace").strip()
    if not is_number(label) or int(label) >= classes:
        raise InputError(
            f"{path}: {key}.cls is {label[:20]!r}, no class number below {classes}, the lines of classnames.txt"
        )
    return Picture(picture, int(label), f"{path}: {key}")
