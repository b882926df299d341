import errno
import fcntl
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import xxhash

from wit import storage
from wit.errors import Busy, DamagedFile


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


def hold(out: str, held: "multiprocessing.synchronize.Event") -> None:
    with storage.only_builder(out):
        held.set()
        time.sleep(60)


def test_a_second_builder_is_refused_until_the_first_is_gone_even_if_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=hold, args=(str(tmp_path), held))
    holder.start()
    assert held.wait(10)
    with pytest.raises(Busy, match="another build is at work"), storage.only_builder(str(tmp_path)):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with storage.only_builder(str(tmp_path)):
        pass


def test_a_lease_on_an_object_store_is_exclusive_and_ends_with_its_block() -> None:
    with (
        storage.only_builder("memory://set"),
        pytest.raises(Busy, match="holds memory://set"),
        storage.only_builder("memory://set"),
    ):
        pass
    with storage.only_builder("memory://set"):
        pass


PAGE = storage.HashedFile.ALIGNMENT
BUFFER = storage.HashedFile.BUFFER_BYTES
AWKWARD_SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER, 3 * BUFFER + 512)


@pytest.mark.parametrize("size", AWKWARD_SIZES)
@pytest.mark.parametrize("disk", ["direct", "no O_DIRECT", "refused at open", "refused at write"])
def test_a_hashed_file_holds_what_was_written(
    size: int, disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open, really_write, direct = os.open, os.write, os.O_DIRECT
    if disk == "no O_DIRECT":
        monkeypatch.delattr(os, "O_DIRECT")
    if disk.startswith("refused"):
        refuses: set[int] = set()

        def open_(path: str, flags: int, mode: int) -> int:
            if flags & direct and disk == "refused at open":
                raise OSError(errno.EINVAL, "Invalid argument")
            fd = really_open(path, flags, mode)
            if flags & direct:
                refuses.add(fd)
            return fd

        def write(fd: int, data: bytes) -> int:
            if fd in refuses and fcntl.fcntl(fd, fcntl.F_GETFL) & direct:
                raise OSError(errno.EINVAL, "Invalid argument")
            return really_write(fd, data)

        monkeypatch.setattr(os, "open", open_)
        monkeypatch.setattr(os, "write", write)
    (tmp_path / "spool").write_bytes(b"before" + (body := random.Random(size).randbytes(size)))
    file = storage.HashedFile(str(tmp_path / "file"))
    with open(tmp_path / "spool", "rb") as spool:
        file.write(b"head")
        file.copy(spool.fileno(), 6, size)
        file.write(body)
        with pytest.raises(EOFError):
            file.copy(spool.fileno(), 6, size + 1)
    wanted, digest = b"head" + 2 * body, file.close()
    got = (tmp_path / "file").read_bytes()
    assert got[: len(wanted)] == wanted and len(got) == file.size - 1  # the last copy came to the spool's end
    assert digest == ("xxh3_128", xxhash.xxh3_128(got).hexdigest())


def test_a_full_disk_is_an_error_not_a_short_file(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    file = storage.HashedFile(str(tmp_path / "file"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (BUFFER + PAGE, before[1]))
        with pytest.raises(OSError, match="too large"):
            for _ in range(4):
                file.write(bytes(BUFFER))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
