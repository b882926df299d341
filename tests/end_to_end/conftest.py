"""One finished set a module, of which every test has a copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder with the one finished set that every test copies; made by the first."""
    return {"folder": tmp_path_factory.mktemp("going-on")}


@pytest.fixture
def command(
    made: dict[str, Path], upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The arguments that made the finished set `set` in the working directory; the web counts from here."""
    with upgrade.web() as port:
        if not (made["folder"] / "set").exists():
            monkeypatch.chdir(made["folder"])
            upgrade.Web.broken = {3}
            assert main(upgrade.inputs(made["folder"], port)) == 0
            upgrade.Web.broken, upgrade.Web.asked = set(), []
        shutil.copytree(made["folder"], tmp_path / "copy")
        monkeypatch.chdir(tmp_path / "copy")
        yield upgrade.inputs(tmp_path / "copy", port)
