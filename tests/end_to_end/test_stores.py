"""A store that nobody here knows: a scheme of fsspec's that another package brings. Nothing of ours names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUERIES = ROOT / "queries" / "500k.txt"
MODULE = """
import os, shutil
from fsspec.implementations.local import LocalFileSystem

class OtherStore(LocalFileSystem):
    '''Objects that are put whole; each put gives a new version, as object stores do.'''

    protocol = ("other",)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(os.fspath(path).removeprefix("other://"))

    def unstrip_protocol(self, name):
        return f"other://{self._strip_protocol(name)}"

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        path = self._strip_protocol(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb" if mode == "create" else "wb") as file:
            file.write(value)

    def put_file(self, lpath, rpath, **kwargs):
        rpath = self._strip_protocol(rpath)
        os.makedirs(os.path.dirname(rpath), exist_ok=True)
        shutil.copyfile(lpath, rpath)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a package that brings the scheme other://."""
    info = tmp_path / "site" / "other_store-1.dist-info"
    info.mkdir(parents=True)
    (info.parent / "other_store.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-store\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[fsspec.specs]\nother = other_store:OtherStore\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(info.parent)])}


def run(module: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_set_is_built_checked_and_left_alone_in_a_store_of_any_scheme(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    out = f"other://{tmp_path}/set"
    build = ("--queries", str(QUERIES), "--output", out, "--seed", "7", "--limit", "400")
    first = run("pipelines.build", *build, environment=environment)
    assert first.returncode == 0, first.stderr
    checked = run("pipelines.verify", out, "--level", "full", environment=environment)
    assert checked.returncode == 0 and "sound" in checked.stdout, checked.stdout
    shard = (tmp_path / "set" / "shards" / "00000.tar").read_bytes()
    again = run("pipelines.build", *build, environment=environment)
    assert again.returncode == 0, again.stderr
    stages = ("candidates", "plan", "download", "select", "publish", "report")
    assert [line for line in again.stderr.splitlines() if "finished before" in line] == [
        f"{stage:<10} finished before" for stage in stages
    ]
    assert (tmp_path / "set" / "shards" / "00000.tar").read_bytes() == shard
