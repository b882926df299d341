import multiprocessing
from pathlib import Path

import pytest

from wit import storage
from wit.errors import DamagedFile


def test_a_file_is_replaced_whole_and_no_temporary_one_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "deep/er/file")
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, b"two")
    assert storage.read_bytes(path) == b"two" and storage.list_dir(str(tmp_path / "deep/er")) == ["file"]


def test_publish_moves_the_local_file(tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"x")
    storage.publish(str(tmp_path / "local"), str(tmp_path / "out/final"))
    assert storage.read_bytes(str(tmp_path / "out/final")) == b"x" and not (tmp_path / "local").exists()


def test_ranges_are_exact_or_an_error(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "f"), b"0123456789")
    assert storage.read_range(str(tmp_path / "f"), 3, 4) == b"3456"
    with pytest.raises(DamagedFile):
        storage.read_range(str(tmp_path / "f"), 8, 4)


def test_globs_are_sorted_and_keep_the_form_they_were_asked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wat", "a.wat", "c.txt"):
        (tmp_path / name).touch()
    assert storage.glob(f"{tmp_path}/*.wat") == [f"{tmp_path}/a.wat", f"{tmp_path}/b.wat"]
    monkeypatch.chdir(tmp_path)
    assert storage.glob("*.wat") == ["a.wat", "b.wat"]


def claim_many(path: str, name: str, won: "multiprocessing.Queue[str]") -> None:
    if storage.claim(path, name.encode()):
        won.put(name)


def test_of_many_claims_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    won: multiprocessing.Queue[str] = context.Queue()
    racers = [context.Process(target=claim_many, args=(str(tmp_path / "m"), str(i), won)) for i in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert storage.read_bytes(str(tmp_path / "m")).decode() == won.get(timeout=5)
    assert won.empty() and storage.list_dir(str(tmp_path)) == ["m"]
