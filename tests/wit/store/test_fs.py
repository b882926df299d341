from pathlib import Path

import pytest

from wit.errors import DamagedFile
from wit.store import fs


def test_a_file_is_replaced_whole_and_no_temporary_one_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "deep/er/file")
    fs.write_bytes(path, b"one")
    fs.write_bytes(path, b"two")
    assert fs.read_bytes(path) == b"two" and fs.list_dir(str(tmp_path / "deep/er")) == ["file"]


def test_publish_moves_the_local_file(tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x")
    fs.publish(str(tmp_path / "local"), str(tmp_path / "out/final"))
    assert fs.read_bytes(str(tmp_path / "out/final")) == b"x" and not (tmp_path / "local").exists()


def test_ranges_are_exact_or_an_error(tmp_path: Path) -> None:
    fs.write_bytes(str(tmp_path / "f"), b"0123456789")
    assert fs.read_range(str(tmp_path / "f"), 3, 4) == b"3456"
    with pytest.raises(DamagedFile):
        fs.read_range(str(tmp_path / "f"), 8, 4)


def test_globs_are_sorted_and_keep_the_form_they_were_asked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wat", "a.wat", "c.txt"):
        (tmp_path / name).touch()
    assert fs.glob(f"{tmp_path}/*.wat") == [f"{tmp_path}/a.wat", f"{tmp_path}/b.wat"]
    monkeypatch.chdir(tmp_path)
    assert fs.glob("*.wat") == ["a.wat", "b.wat"]


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for data, kept in ((b"one", False), (b"one", True), (b"two", False), (b"longer", False)):
        before = path.stat().st_ino if path.exists() else None
        fs.write_changed(str(path), data)
        assert path.read_bytes() == data and (path.stat().st_ino == before) is kept


def test_what_is_read_if_it_is_there_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    names = {"f": b"x", "none": None, "none/f": None, "f/below": None}
    assert {name: fs.read_if_there(str(tmp_path / name)) for name in names} == names
    assert {name: fs.read_if_there(f"memory://{tmp_path}/{name}") for name in ("none", "none/f")} == {
        "none": None,
        "none/f": None,
    }
    with pytest.raises(IsADirectoryError):
        fs.read_if_there(str(tmp_path))


def test_a_listing_is_of_what_is_below_a_directory_of_a_store() -> None:
    out = "memory://listed"
    fs.write_bytes(f"{out}/d/f", b"xy")
    assert (
        fs.list_sizes(out) == {"d": None} and fs.list_sizes(f"{out}/d") == {"f": 2} and fs.list_dir(f"{out}/d") == ["f"]
    )
    assert fs.list_sizes(f"{out}/d/f") == {} and fs.list_dir(f"{out}/none") == []  # a file, and nothing
    assert (
        fs.size_of_file(f"{out}/d/f") == 2
        and fs.size_of_file(f"{out}/d") is None
        and fs.size_of_file(f"{out}/x") is None
    )
