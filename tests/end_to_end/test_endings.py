"""Every ending is one sentence and the exit code that docs/build.md promises; nothing is left running."""

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.build import main
from wit.store import fs
from wit.store.builder import only_builder
from wit.verify import verify

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        yield upgrade.inputs(tmp_path, port)


def start(arguments: list[str], prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.build", *arguments]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, start_new_session=True, preexec_fn=prepare, **pipes)


def wait_until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    for _ in range(1_200):
        if true():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


MOMENTS = {
    "start": lambda _: Path("set/.lock").exists(),
    "candidates": lambda _: Path("set/run.json").exists(),
    "plan": lambda _: Path("set/candidates/_MANIFEST.json").exists(),
    "download": lambda upgrade: len(upgrade.pictures_asked()) > 5,
}


@pytest.mark.variants(4)
@pytest.mark.parametrize(
    "moment, number, name",
    [
        *((moment, signal.SIGINT, "Ctrl-C") for moment in MOMENTS),
        *((moment, signal.SIGTERM, "SIGTERM") for moment in MOMENTS if moment != "download"),  # test_demo has that
    ],
)
def test_ctrl_c_is_one_sentence_with_the_command_that_goes_on(
    moment: str, number: int, name: str, command: list[str], upgrade: Any
) -> None:
    upgrade.Web.held = {29}
    process = start(command)
    wait_until(lambda: MOMENTS[moment](upgrade), process)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)  # as a terminal does, to all of them
    _, said = process.communicate(timeout=20)
    assert process.returncode == 3, said
    assert f"stopped: by {name}; to go on: python -m pipelines.build --config build.toml --queries" in said
    assert "Traceback" not in said and "KeyboardInterrupt" not in said
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    upgrade.Web.held = set()
    assert main(command) == 0 and verify("set", "full").problems == ()


def catches_sigterm(process: subprocess.Popen[str]) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_sigterm_before_anything_was_done_is_a_sentence_too(command: list[str]) -> None:
    process = start(command)
    wait_until(lambda: catches_sigterm(process), process)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (3, "stopped: by SIGTERM, before anything was done\n")
    assert not Path("set").exists()


def file_size(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.variants(2)
@pytest.mark.parametrize("limit", [4_000, 9_000, 16_000, 24_000, 45_000])
def test_a_disk_that_takes_no_more_is_one_sentence_and_no_loss(limit: int, command: list[str]) -> None:
    process = start(command, file_size(limit))
    _, said = process.communicate(timeout=60)
    assert process.returncode in (2, 3), said
    assert "File too large" in said.splitlines()[-1] and "make room there" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert main(command) == 0
    verdict = verify("set", "full")
    assert verdict.problems == () and verdict.samples == 26


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no right to mount a disk here")
    yield place
    subprocess.run(["umount", place], check=True)


def large_picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.mark.variants(2)
@pytest.mark.parametrize("size, large", [("300k", False), ("430k", False), ("900k", True), ("1300k", True)])
def test_a_full_disk_is_one_sentence_and_the_build_goes_on_with_more_room(
    size: str, large: bool, command: list[str], small_disk: Path, upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)
    if large:  # the disk is full while pictures are stored
        monkeypatch.setattr(upgrade, "picture", lambda number: large_picture(upgrade.ALIKE.get(number, number)))
    command[command.index("set")] = str(small_disk / "set")
    process = start([*command, "--picture-bytes", "1"])  # past the check of the disk
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    last = said.splitlines()[-1]
    assert last.startswith("stopped: No space left on device") and f"{small_disk}/set" in last, last
    assert "make room there" in last and "Traceback" not in said and "BufferError" not in said
    subprocess.run(["mount", "-o", "remount,size=40m", small_disk], check=True)
    assert main(command) == 0
    verdict = verify(str(small_disk / "set"), "full")
    assert verdict.problems == () and verdict.samples == 26


def test_a_disk_that_will_not_do_is_a_refusal_before_the_first_request(
    command: list[str], small_disk: Path, upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command[command.index("set")] = str(small_disk / "set")
    for more in ([], ["--dry-run"]):
        assert main([*command, *more]) == 3  # candidates and plan stand by now
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("stopped: the disk of ") and "has 0.000 GB free and the set needs about 0.001 GB" in last
    assert upgrade.Web.asked == []


def test_a_dry_run_says_what_a_download_takes_and_asks_nobody(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "to fetch   31 pictures of 4 hosts, 35 requests" in said
    assert all(word in said for word in ("slowest ", "disk ", "GB are free", "time "))
    assert upgrade.Web.asked == [] and not Path("set/raw").exists()
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert "to fetch   nothing" in capsys.readouterr().err


def refused(number: int) -> Callable[..., None]:
    def refuse(path: str, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), path)

    return refuse


@pytest.mark.parametrize("number, code", [(30, 2), (13, 2), (28, 2), (17, 2)])
def test_an_output_that_cannot_be_written_is_bad_input(
    number: int, code: int, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fs, "write_bytes", refused(number))
    assert main(command) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"error: {os.strerror(number)}") and "run.json" in said[0]


@pytest.mark.parametrize(
    "more, said",
    [
        (["--workers", "-1"], "--workers is -1"),
        (["--limit", "-1"], "--limit is -1"),
        (["--files-per-part", "-2"], "--files-per-part is -2"),
        (["--source-requests-per-s", "0"], "--source-requests-per-s is 0"),
        (["--output", "urls.tsv"], "is a file"),
        (["--output", "urls.tsv/set"], "urls.tsv/set"),
        (["--output", "/proc/x"], "no directory can be made at --output /proc/x: choose another place"),
        (["--output", "nowhere"], "nowhere: choose another place"),
        (["--output", "full"], "holds files of something else"),
        (["--queries", "full"], "no query list at"),
        (["--queries", "missing.txt"], "no query list at"),
        (["--source", "table:full"], "no table file in the directory full"),
        (["--source", "table:missing.tsv"], "no such file"),
        (["--config", "full"], "full"),
        (["--config", "missing.toml"], "no such configuration file"),
        (["--stages", "candidates,plans"], "no such stage"),
        (["--no-such-flag"], "no option of wit or Beam"),
        (["--dry-run", "--rebuild-from", "plan"], "--dry-run throws nothing away"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    more: list[str], said: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").mkdir()
    Path("full/x").write_text("x", encoding="utf-8")
    Path("nowhere").symlink_to("/proc/x")
    before = sorted(Path().rglob("*"))
    assert main([*command, *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]
    assert sorted(Path().rglob("*")) == before


def test_a_second_build_of_one_output_is_told_so(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with only_builder("set"):
        assert main(command) == 2
    assert "another build is at work" in capsys.readouterr().err


def test_sigterm_while_all_that_is_left_is_on_its_way_is_exit_code_3(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is missing then, and going on to select and publish is not what was asked for."""

    def terminate() -> None:
        while len(upgrade.pictures_asked()) < 5:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    assert main(command) == 3
    assert "stopped: by SIGTERM" in capsys.readouterr().err
    assert not Path("set/shards/MANIFEST.json").exists()
    assert main(command) == 0
