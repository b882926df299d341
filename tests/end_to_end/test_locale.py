"""A build speaks UTF-8 whatever the machine is set to: its files, and what it reads."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("locale", ["C", pytest.param("POSIX", marks=pytest.mark.slow)])
def test_a_build_and_its_report_in_a_machine_without_utf8(upgrade: Any, tmp_path: Path, locale: str) -> None:
    env = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONIOENCODING", None)
    with upgrade.web() as port:
        arguments = upgrade.inputs(tmp_path, port)
        with open(tmp_path / "queries.txt", "a", encoding="utf-8") as queries:
            queries.write("café\nпёс\n")
        urls = (
            (tmp_path / "urls.tsv")
            .read_text("utf-8")
            .replace("a red dog number 2", "a red dog number 2 at the café", 1)
        )
        (tmp_path / "urls-e.tsv").write_text(urls, encoding="utf-8")
        arguments[arguments.index("table:urls.tsv")] = "table:urls-e.tsv"
        for command in (
            ["pipelines.build", *arguments],
            ["pipelines.show", "set"],
            ["pipelines.verify", "set", "--level", "full"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", *command], cwd=tmp_path, env=env, capture_output=True, timeout=200
            )
            assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2_000:]
    assert "a red dog number 2 at the café" in (tmp_path / "set/report/index.html").read_text("utf-8")


def test_a_name_that_is_no_text_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path / "urls") + b"-\xe9.csv")
    Path(folder).write_bytes(b"url,caption\nhttp://h0.example/0.png,a dog\n")
    for source in (f"table:{folder}", f"table:{tmp_path}/*.csv"):
        assert main(["--source", source, "--output", str(tmp_path / "set"), "--contact", "a@b.example"]) == 2
        told = capsys.readouterr().err
        assert "is no UTF-8 text here: rename the file" in told and told.count("\n") == 1
