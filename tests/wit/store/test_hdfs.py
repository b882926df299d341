"""What HDFS' client does not promise, wit.store.hdfs does: creators exclude one another, and files appear whole."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

import pytest
from fsspec.registry import _registry

from wit import build
from wit.store import fs
from wit.store.hdfs import HdfsStore
from wit.store.manifests import Unit
from wit.store.parts import StageDir

sys.path.append(str(Path(__file__).parents[2]))

import hdfs
import races

ROUNDS = 200


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(_registry, "hdfs", hdfs.HdfsClient)
    return f"hdfs://{tmp_path}/set"


def test_of_many_that_claim_exactly_one_wins(out: str) -> None:
    places = [f"{out}/m{number}" for number in range(ROUNDS)]
    won = races.winners(places, races.claims, hdfs.install)
    assert [[fs.read_bytes(place).decode()] for place in places] == won
    assert len(fs.list_dir(out)) == ROUNDS  # and nothing of the others is left


def test_of_many_that_take_a_lease_one_gets_it(out: str) -> None:
    won = races.winners([f"{out}{number}" for number in range(20)], races.leases, hdfs.install)
    assert [len(names) for names in won] == [1] * 20


def watched(path: str, stop: threading.Event) -> list[bytes]:
    """What a reader sees of a file until the event, without repetitions."""
    seen: list[bytes] = []
    while not stop.is_set():
        with contextlib.suppress(FileNotFoundError):
            if (data := Path(path).read_bytes()) not in seen:
                seen.append(data)
    return seen


def test_a_file_is_seen_whole_or_not_at_all(out: str) -> None:
    stop, seen = threading.Event(), []
    reader = threading.Thread(target=lambda: seen.extend(watched(f"{out}/f".removeprefix("hdfs://"), stop)))
    reader.start()
    for number in range(30):
        fs.write_bytes(f"{out}/f", bytes([number]) * 10_000)
    stop.set()
    reader.join()
    assert {data[:1] * 10_000 for data in seen} >= {*seen} and b"" not in seen
    assert fs.list_dir(out) == ["f"]


def test_a_late_duplicate_leaves_alone_what_a_marker_names(out: str, tmp_path: Path) -> None:
    stage, unit = StageDir(out, "candidates", "f"), Unit.numbered("part", 0)

    def local() -> dict[str, str]:
        (tmp_path / "rows.parquet").write_bytes(b"x" * 100_000)
        return {"rows": str(tmp_path / "rows.parquet")}

    marker = stage.publish(unit, local())
    path = Path(stage.file(marker, "rows").removeprefix("hdfs://"))
    before = path.stat()
    again = StageDir(out, "candidates", "f").publish(unit, local())
    store, inner = fs.file_system(str(stage.file(marker, "rows")))
    with pytest.raises(FileExistsError):  # it was on its way when the first one came
        store.put_new(local()["rows"], inner)
    assert again == marker and (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    path.write_bytes(b"cut off")
    stage.publish(unit, local())
    assert path.read_bytes() == b"x" * 100_000


def test_a_copy_is_asked_for_before_it_is_put_in_its_place(out: str) -> None:
    fs.write_bytes(f"{out}/a", b"new")
    fs.write_bytes(f"{out}/b", b"old")
    with pytest.raises(ZeroDivisionError):
        fs.copy(f"{out}/a", f"{out}/b", before=lambda: 1 / 0)
    assert fs.read_bytes(f"{out}/b") == b"old" and fs.list_dir(out) == ["a", "b"]
    fs.copy(f"{out}/a", f"{out}/b")
    assert fs.read_bytes(f"{out}/b") == b"new" and fs.list_dir(out) == ["a", "b"]


class LostAnswers(hdfs.HdfsClient):
    """Every first call that moves a file or writes one fails after all was done."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    def mv(self, path1: str, path2: str, **_: object) -> None:
        super().mv(path1, path2)
        if path2 not in self.lost:
            self.lost.add(path2)
            raise ConnectionResetError("reset")


def test_a_move_whose_answer_was_lost_has_been_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wit.store.patience.FIRST_PAUSE_S", 1e-4)
    (tmp_path / "d").mkdir()
    for mode in ("create", "overwrite"):
        HdfsStore(LostAnswers()).pipe_file(f"{tmp_path}/d/{mode}", b"mine", mode=mode)
    with pytest.raises(FileExistsError):
        HdfsStore(LostAnswers()).pipe_file(f"{tmp_path}/d/create", b"another's", mode="create")
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == {
        "create": b"mine",
        "overwrite": b"mine",
    }


def test_a_lease_that_is_renewed_is_there_at_every_instant(out: str) -> None:
    path, stop = f"{out}/l", threading.Event()
    fs.write_bytes(path, b"x")
    gone: list[bool] = []

    def watch() -> None:
        while not stop.is_set():
            gone.append(not Path(path.removeprefix("hdfs://")).exists())

    reader = threading.Thread(target=watch)
    reader.start()
    for _ in range(30):
        fs.rewrite_bytes(path, b"y")
    stop.set()
    reader.join()
    assert gone and not any(gone)


def test_what_a_killed_process_left_half_written_is_removed(out: str) -> None:
    for folder in ("", "ledger/", "_lease/"):
        fs.write_bytes(f"{out}/{folder}x.json.12ab.tmp/x.json", b"half")
        fs.write_bytes(f"{out}/{folder}x.json", b"whole")
    build.clear_up(out)
    assert fs.find(out) == ["_lease/x.json", "ledger/x.json", "x.json"]


def test_many_files_are_removed_though_the_client_takes_one_name_a_call(out: str) -> None:
    for name in ("a", "b", "c"):
        fs.write_bytes(f"{out}/{name}", b"x")
    fs.write_bytes(f"{out}/d/e", b"x")
    fs.remove_entries(out, {"a": 1, "b": 1, "gone": 1, "d": None})
    assert fs.find(out) == ["c"]
