"""docs/running.md: what it tells the reader to type parses, and asks of a build what the page says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from pipelines.commandline import parse
from pipelines.engine import Engine

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/running.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGE, re.MULTILINE)
SCRIPT = re.sub(r"^ {4}", "", "".join(BLOCKS), flags=re.MULTILINE)


def asked() -> list[list[str]]:
    """The arguments of every build on the page, in its order, as the shell gives them to it. Nothing else of the page is run: the
    variables are set, and a function stands for the build."""
    logical = SCRIPT.replace("\\\n", " ")
    exports = re.findall(
        r'^export \w+=(?:"(?:[^"\\]|\\.)*"|\S+)|^\.venv/bin/python -m pipelines\.build .*', logical, re.MULTILINE
    )
    told = [line.replace(".venv/bin/python -m pipelines.build", "tell") for line in exports]
    shell = "\n".join(["tell() { printf '%s\\0' \"$@\"; printf 'END\\0'; }", *told])
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert not done.stderr
    return [one.split("\0")[:-1] for one in done.stdout.split("END\0")[:-1]]


def test_the_page_is_a_script_that_bash_can_read() -> None:
    assert subprocess.run(["bash", "-n"], input=SCRIPT, capture_output=True, text=True, check=True).stderr == ""


def test_every_build_on_the_page_has_flags_that_there_are() -> None:
    here, *far = asked()
    assert parse(here)[1] == () and len(far) == 4
    for arguments in far:
        config, beam_flags = parse(arguments)
        engine = Engine(beam_flags, 1)
        assert not engine.local and engine.endpoint.startswith("localhost:") and config.fetch.fetch_workers == 2
        config.fetch.check_shared(engine.runner)
        (environment,) = [flag for flag in beam_flags if flag.startswith("--environment_config=")]
        assert json.loads(environment.partition("=")[2]) == {"command": "/opt/wit/boot"}


@pytest.mark.parametrize("name", ["beam-runners-spark-3", "container@v2.77.0"])
def test_versions_on_the_page_are_those_of_the_targets(name: str) -> None:
    targets = (ROOT / "tests/engines/engines.py").read_text(encoding="utf-8")
    assert name in PAGE and name.split("@v")[-1] in targets
    assert "apache-beam==2.77.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
