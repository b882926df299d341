"""What may pass is asked again, what may not is raised at once; no answer that was lost makes a difference."""

from __future__ import annotations

import errno
import io
import random
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from wit.errors import StoreAway
from wit.store import claims, fs, patience
from wit.store.patience import ATTEMPTS, PatientStore, Ranges, may_pass, patient, status_of

sys.path.append(str(Path(__file__).parents[2]))

import stores


class Bearing(Exception):
    """An error with the attributes that a client gives it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("words")
        self.__dict__ |= attributes


def caused(error: Exception, by: Exception) -> Exception:
    try:
        raise error from by
    except Exception as raised:
        return raised


ServerDisconnectedError = type("ServerDisconnectedError", (Exception,), {})
Child = type("Child", (ServerDisconnectedError,), {})


@pytest.mark.parametrize(
    "error, again",
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (TimeoutError(), True),
        (OSError(errno.EBUSY, "SlowDown"), True),
        (OSError(errno.ENETUNREACH, "x"), True),
        (Bearing(status=503), True),
        (Bearing(status=429), True),
        (Bearing(code=500), True),
        (Bearing(code="502"), True),
        (Bearing(response={"ResponseMetadata": {"HTTPStatusCode": 503}}), True),
        (Child(), True),
        (caused(OSError(errno.EIO, "x"), Bearing(status=500)), True),
        (Bearing(status=400), False),
        (Bearing(status=404), False),
        (Bearing(status=409), True),
        (Bearing(status=412), False),
        (Bearing(response={"ResponseMetadata": {"HTTPStatusCode": 403}}), False),
        (caused(ValueError(), Bearing(status=403)), False),
        (FileNotFoundError(), False),
        (caused(FileNotFoundError(), ConnectionResetError()), False),
        (FileExistsError(), False),
        (PermissionError(), False),
        (OSError(errno.ENOSPC, "full"), False),
        (OSError(errno.EINVAL, "x"), False),
        (ValueError("a bug"), False),
        (StoreAway("x"), False),
        (caused(StoreAway("x"), TimeoutError()), False),
    ],
    ids=repr,
)
def test_what_may_pass(error: Exception, again: bool) -> None:
    assert may_pass(error) is again


def test_errors_that_cause_one_another_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not may_pass(one)


def test_a_status_is_a_number() -> None:
    assert status_of(Bearing(code="AccessDenied")) is None and status_of(Bearing(status=None, code=404)) == 404
    assert status_of(Bearing(response="text")) is None and status_of(ValueError()) is None


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize("failures", [0, 1, ATTEMPTS - 1])
def test_a_call_is_made_again_until_it_does_not_fail(pauses: list[float], failures: int) -> None:
    errors = [TimeoutError()] * failures
    made: list[str] = []

    def call(path: str, *, end: int) -> str:
        made.append(f"{path}{end}")
        if errors:
            raise errors.pop()
        return "data"

    assert patient(call)("a", end=3) == "data" and made == ["a3"] * (failures + 1)
    usual = [patience.FIRST_PAUSE_S * 2**number for number in range(failures)]
    assert all(usual / 2 <= waited <= 1.5 * usual for waited, usual in zip(pauses, usual, strict=True))


def test_a_store_that_stays_away_is_named_in_one_sentence(pauses: list[float]) -> None:
    def call(path: str) -> None:
        raise TimeoutError("timed out\nand more")

    with pytest.raises(StoreAway) as raised:
        patient(call)("bucket/x")
    why = f"(TimeoutError: timed out, {ATTEMPTS} times in a row)"
    assert f"{raised.value}" == f"the store does not answer for bucket/x {why}: start again when it is back"
    assert len(pauses) == ATTEMPTS - 1


def test_what_may_not_pass_is_raised_at_once(pauses: list[float]) -> None:
    def call(path: str) -> None:
        raise PermissionError(path)

    with pytest.raises(PermissionError):
        patient(call)("x")
    assert pauses == []


class Away(LocalFileSystem):  # type: ignore[misc]
    """Says of nothing whether it is there."""

    cachable = False

    def info(self, path: str, **_: Any) -> Any:
        raise ConnectionResetError("reset")


def test_a_store_that_does_not_answer_has_not_said_no(pauses: list[float]) -> None:
    store = PatientStore(Away())
    for asked in (store.exists, store.isdir, store.isfile):
        with pytest.raises(StoreAway):
            asked("/x")


def test_what_is_there_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"x")
    store = PatientStore(LocalFileSystem())
    kinds = {name: (store.exists(p), store.isdir(p), store.isfile(p)) for name in "dfn" if (p := str(tmp_path / name))}
    assert kinds == {"d": (True, True, False), "f": (True, False, True), "n": (False, False, False)}
    store.rm(str(tmp_path / "n"), recursive=True)
    store.rm(str(tmp_path / "d"), recursive=True)
    assert not (tmp_path / "d").exists()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[stores.OtherStore]:
    """A store of which a fifth of the calls fail, here: eight in a row once in 400,000."""
    import fsspec

    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 1e-5)
    monkeypatch.setenv("STORE_FAILS", "0.2")
    monkeypatch.setenv("STORE_SEED", "5")
    return stores.OtherStore


def test_a_store_that_fails_often_does_what_a_calm_one_does(failing: Any, tmp_path: Path) -> None:
    out = f"other://{tmp_path}/out"
    for number in range(40):
        fs.write_bytes(f"{out}/{number:02d}", bytes([number]) * 1_000)
    assert fs.list_sizes(out) == {f"{number:02d}": 1_000 for number in range(40)}
    assert fs.read_range(f"{out}/07", 5, 10) == b"\7" * 10
    fs.copy(f"{out}/07", f"{out}/a")
    fs.remove(f"{out}/07")
    fs.remove(f"{out}/07")
    assert not fs.exists(f"{out}/07") and fs.exists(f"{out}/a") and fs.is_dir(out)
    local = tmp_path / "local"
    local.write_bytes(b"moved")
    fs.publish(str(local), f"{out}/b")
    assert fs.read_bytes(f"{out}/b") == b"moved" and not local.exists()


def test_of_many_that_claim_in_a_store_that_fails_exactly_one_wins_and_knows_it(failing: Any, tmp_path: Path) -> None:
    for round_ in range(40):
        path, won = f"other://{tmp_path}/m{round_}", []

        def race(name: bytes, path: str = path, won: list[bytes] = won) -> None:
            if claims.claim(path, name):
                won.append(name)

        threads = [threading.Thread(target=race, args=(b"racer %d" % number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [fs.read_bytes(path)]


def test_a_stream_is_the_file_however_it_is_read(failing: Any, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(300_000)
    (tmp_path / "f").write_bytes(data)
    with fs.open_read(f"other://{tmp_path}/f") as stream:
        assert stream.read(10) == data[:10] and stream.seek(-5, io.SEEK_END) == len(data) - 5
        assert stream.read() == data[-5:] and stream.read() == b""
        assert stream.seek(7) == 7 and stream.read() == data[7:]
    stream = Ranges(PatientStore(LocalFileSystem()), str(tmp_path / "f"))
    assert stream.readable() and stream.seekable() and stream.readall() == data and stream.tell() == len(data)
    assert stream.seek(-2, io.SEEK_CUR) == len(data) - 2


@pytest.mark.parametrize(
    "error, why",
    [
        (ConnectionResetError(), "lost connections"),
        (Child(), "lost connections"),
        (TimeoutError(), "time-outs"),
        (type("ReadTimeoutError", (OSError,), {})(), "time-outs"),
        (OSError(errno.EBUSY, "SlowDown"), "busy"),
        (OSError(errno.ENETUNREACH, "x"), "no network"),
        (Bearing(status=503), "503"),
        (caused(OSError(errno.EIO, "x"), Bearing(code="500")), "500"),
        (Bearing(status=404), None),
    ],
    ids=repr,
)
def test_a_reason_to_ask_again_is_one_that_a_user_can_look_up(error: Exception, why: str | None) -> None:
    assert patience.why_again(error) == why


def test_what_is_asked_again_is_counted_until_somebody_is_told(pauses: list[float]) -> None:
    patience.counted()
    errors: list[Exception] = [Bearing(status=503), TimeoutError(), Bearing(status=503), FileNotFoundError()]

    def call(path: str) -> None:
        raise errors.pop(0)

    with pytest.raises(FileNotFoundError):
        patient(call)("x")
    patience.count({"503": 998})
    kinds = patience.counted()
    assert kinds == {"503": 1_000, "time-outs": 1} and patience.counted() == {}
    assert patience.in_words(kinds) == "the store was asked again 1,001 times: 1,000 503, 1 time-outs"
    assert patience.in_words({"503": 1}).startswith("the store was asked again 1 time:")


def test_what_must_be_asked_before_a_write_is_asked_before_each_attempt(failing: Any, tmp_path: Path) -> None:
    asked: list[int] = []

    def ask() -> None:
        if len(asked) == 2:
            raise StoreAway("taken over")
        asked.append(1)

    with pytest.raises(StoreAway, match="taken over"):
        for _ in range(100):
            fs.write_bytes(f"other://{tmp_path}/f", b"x", before=ask)
            asked.clear()
