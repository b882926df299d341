import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.verify import main
from wit.store import fs


def test_a_sound_build_is_summed_up(
    tmp_path: Path, build: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = build(str(tmp_path / "out"))
    assert main([out, "--level", "full"]) == 0
    assert "sound at level full" in (said := capsys.readouterr().out) and "22 samples in 4 shards" in said
    Path(f"{out}/shards/00001.tar").unlink()
    assert main([out]) == 1
    assert (
        "shards/00001.tar: missing; start the build again, which makes it anew" in capsys.readouterr().out.splitlines()
    )


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no build in ")
    for arguments, said in (
        (["--level", "deep"], "--level deep: no such value; have metadata, sample, full"),
        (["--level=ful"], "did you mean full?"),
        (["--levle", "full"], "unknown option --levle; have --level; did you mean --level?"),
    ):
        assert main([str(tmp_path), *arguments]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_store_that_refuses_is_one_sentence_and_exit_code_2(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = importlib.import_module(f"pipelines.{command}").main
    assert run(["ftp://127.0.0.1:1/x"]) == 2
    assert capsys.readouterr().err == "error: [Errno 111] Connection refused\n"

    def denied(path: str) -> bool:
        raise PermissionError("Access Denied")  # as clients say it, without a number

    monkeypatch.setattr(fs, "exists", denied)
    assert run(["memory://set"]) == 2
    assert capsys.readouterr().err == "error: Access Denied\n"


def test_an_engine_tells_what_threads_of_one_process_tell(
    tmp_path: Path, build: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, place = build(str(tmp_path / "out")), str(tmp_path / "place")
    engine = ["--runner=FnApiRunner", f"--temp_location={place}"]

    def lines(*arguments: str) -> tuple[int, list[str]]:
        return main([out, "--level=full", *arguments]), capsys.readouterr().out.splitlines()

    before = fs.find(out)
    assert lines(*engine) == lines() and lines()[0] == 0
    tar = Path(f"{out}/shards/00001.tar")
    tar.write_bytes(tar.read_bytes().replace(b'"width"', b'"girth"', 1))
    Path(f"{out}/shards/00002.parquet").write_bytes(Path(f"{out}/shards/00000.parquet").read_bytes())
    assert lines(*engine) == lines() and lines()[0] == 1
    assert fs.find(out) == before and fs.find(place) == []


def test_on_an_engine_it_asks_for_a_place_that_all_workers_reach(
    tmp_path: Path, build: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = build(str(tmp_path / "out"))
    assert main([out, "--runner=FnApiRunner"]) == 2 and "needs --temp_location" in capsys.readouterr().err
    assert main([out, "--runner=FnApiRunner", "--temp_locaton=x"]) == 2
    assert "did you mean --temp_location?" in capsys.readouterr().err
