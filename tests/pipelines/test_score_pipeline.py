"""The optional score stage, in a small build of the demonstration web."""

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipelines import build
from trainer import checkpoint, score
from trainer.model import CLIP, MODELS
from wit.verify import verify

STAGES = "candidates,plan,download,score,select,publish,report"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of fresh weights: its scores mean nothing, but are as good as any to decide by."""
    torch.manual_seed(3)
    out = str(tmp_path_factory.mktemp("model"))
    checkpoint.save(out, {"name": "demo", "state_dict": CLIP(MODELS["demo"]).state_dict()}, step=1, keep=1)
    return out


def run(out: Path, *more: str) -> int:
    (out.parent / "queries.txt").write_text(
        "\n".join("red blue green dog cat bird house tree circle of the a in".split())
    )
    common = ["--queries", str(out.parent / "queries.txt"), "--output", str(out), "--seed", "20"]
    return build.main([*common, "--limit", "600", "--workers", "1", "--rows-per-raw-shard", "150", *more])


def rows(directory: Path, pattern: str = "*.parquet") -> list[dict[str, Any]]:
    found = [pq.read_table(path) for path in sorted(directory.glob(pattern)) if ".fetch." not in path.name]
    return pa.concat_tables(found).to_pylist()


def contents(*directories: Path) -> dict[str, tuple[bytes, int]]:
    files = [p for directory in directories for p in sorted(directory.rglob("*")) if p.is_file()]
    return {f"{p.parent.name}/{p.name}": (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def ledger(out: Path) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((out / "ledger.json").read_bytes())["stages"]
    return stages


def test_scores_are_made_used_and_withdrawn_without_asking_the_web_again(tmp_path: Path, model: str) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    plain, raw = contents(out / "shards", out / "select"), contents(out / "raw")
    assert "score" not in ledger(out) and all(row["clip_score"] is None for row in rows(out / "shards"))

    scored = ["--stages", STAGES, "--score-checkpoint", model]
    assert run(out, *scored) == 0
    assert verify(str(out)).stages == ("candidates", "plan", "download", "score", "select", "publish")
    assert "candidates, plan, download, score, select, publish" in (out / "report/index.html").read_text()
    fetched = [row for row in rows(out / "raw") if row["reason"] is None]
    assert ledger(out)["score"] == {"in": len(fetched), "out": len(fetched), "dropped": {}}
    assert len(fetched) > 50 and all(".scores-demo.parquet" in p.name for p in (out / "score").glob("*.parquet"))
    given = {row["key"]: row["clip_score"] for row in rows(out / "score")}
    assert set(given) == {row["key"] for row in fetched} and None not in given.values()
    expected = {row["key"]: row["clip_score"] for row in rows(out / "shards")}
    assert all(value == given.get(key) for key, value in expected.items())
    scorer = score.open_scorer(model)
    for key, (picture, said) in samples(out).items():
        assert said["clip_score"] == expected[key]
        if said["clip_score"] is not None:
            again = scorer([(picture, said["caption"])])[0]
            assert again == pytest.approx(said["clip_score"], abs=1e-5)
    assert verify(str(out), level="full").problems == ()
    first = contents(out / "score")

    middle = sorted(given.values())[len(given) // 2]
    assert run(out, *scored, "--min-clip-score", str(middle)) == 0
    assert contents(out / "score") == first and contents(out / "raw") == raw
    low = {row["key"] for row in rows(out / "dropped", "select-*.parquet") if row["reason"] == "low_score"}
    assert ledger(out)["select"]["dropped"]["low_score"] == len(low) > 10
    assert all(given[key] < middle for key in low)
    left = [row["clip_score"] for row in rows(out / "shards")]
    assert left and all(value is None or value >= middle for value in left)
    assert verify(str(out), level="full").problems == ()

    assert run(out, *scored, "--rebuild-from", "score") == 0
    assert {name: data for name, (data, _) in contents(out / "score").items()} == {n: d for n, (d, _) in first.items()}

    assert run(out) == 0
    again = contents(out / "shards", out / "select")
    assert {name: data for name, (data, _) in again.items()} == {name: data for name, (data, _) in plain.items()}
    assert contents(out / "raw") == raw and contents(out / "score") == {}
    assert verify(str(out), level="full").problems == ()


def samples(out: Path) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Key -> (picture, KEY.json) of every published sample."""
    found = {}
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
        for name in files:
            if name.endswith(".jpg"):
                key = name.removesuffix(".jpg")
                found[key] = files[name], json.loads(files[f"{key}.json"])
    return found


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--stages", STAGES], "add --score-checkpoint"),
        (["--score-checkpoint", "{model}"], "add score to --stages"),
        (["--min-clip-score", "0.3"], "--min-clip-score needs scores"),
        (["--min-clip-score", "0.3", "--score-checkpoint", "{model}"], "add score to --stages"),
        (["--min-clip-score", "28", "--stages", STAGES, "--score-checkpoint", "{model}"], "from -1 to 1"),
        (["--stages", STAGES, "--score-checkpoint", "{model}/none"], "no such checkpoint"),
        (["--stages", STAGES, "--score-checkpoint", "{tmp}"], "no checkpoint in"),
    ],
)
def test_what_does_not_go_together_gets_one_sentence_and_touches_nothing(
    arguments: list[str], said: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "out", *[a.format(model=model, tmp=tmp_path) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and said in error and "\n" not in error
    assert [p.name for p in tmp_path.iterdir()] == ["queries.txt"]


def test_without_pytorch_the_stage_says_what_to_install(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "trainer.score")
    assert run(tmp_path / "out", "--stages", STAGES, "--score-checkpoint", model) == 2
    assert "pip install wit[train]" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["queries.txt"]
