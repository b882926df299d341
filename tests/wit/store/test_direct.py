import errno
import fcntl
import os
import random
import resource
import signal
from pathlib import Path

import pytest
import xxhash

from wit.store.direct import HashedFile

PAGE = HashedFile.ALIGNMENT
BUFFER = HashedFile.BUFFER_BYTES
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
    file = HashedFile(str(tmp_path / "file"))
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
    file = HashedFile(str(tmp_path / "file"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (BUFFER + PAGE, before[1]))
        with pytest.raises(OSError, match="too large"):
            for _ in range(4):
                file.write(bytes(BUFFER))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
