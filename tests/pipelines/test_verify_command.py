from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.verify import main


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
