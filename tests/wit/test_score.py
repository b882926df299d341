from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wit import score
from wit.download.published import FetchedShard, raw_shards
from wit.errors import DamagedFile, InputError
from wit.records import KEEP, SCORES, pair_key
from wit.select.config import SelectConfig
from wit.store import fs
from wit.store.manifests import Manifest
from wit.store.parts import StageDir


@dataclass(frozen=True)
class ByCaption:
    """Knows each caption's score, and remembers the batches it was given."""

    known: dict[str, float]
    batches: list[int] = field(default_factory=list)
    model: str = "ViT-B/32"
    sha256: str = "0" * 64

    def __call__(self, pairs: Sequence[tuple[bytes, str]]) -> list[float | None]:
        self.batches.append(len(pairs))
        assert all(data[:2] == b"\xff\xd8" for data, _ in pairs)
        return [self.known.get(caption) for _, caption in pairs]


def scored(out: str, download: Manifest, scorer: ByCaption) -> Manifest:
    stage = StageDir(out, "score", "c" * 32)
    return stage.finish([score.score_shard(stage, shard, scorer) for shard in raw_shards(download)], [])


def test_every_fetched_picture_has_one_row_and_none_is_scored_twice(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any
) -> None:
    out, scorer = str(tmp_path / "out"), ByCaption({f"{i}": i / 200 for i in range(200) if i % 7})
    rows = [raw_row(f"{i}", [(f"{i}", [0]), ("never", [1])], look=None if i % 10 == 0 else 1) for i in range(100)]
    download = raw(out, {"00000-0000": rows, "00000-0001": [raw_row("x", [("x", [0])], look=None)]})
    manifest = scored(out, download, scorer)
    assert (manifest.into, manifest.out, manifest.dropped) == (90, 90, {})
    assert scorer.batches == [64, 26]
    names = [marker.files["rows"].name for marker in manifest.parts]
    assert all(name.startswith("score/part-") and name.endswith(".scores-ViT-B-32.parquet") for name in names)
    found = pq.read_table(fs.join(out, names[0]))
    assert found.schema.equals(SCORES)
    fetched = pq.read_table(fs.join(out, download.parts[0].files["parquet"].name))
    assert fetched["key"].take(found["row"]).equals(found["key"])
    by_key = dict(zip(found["key"].to_pylist(), found["clip_score"].to_pylist(), strict=True))
    expected = {pair_key(f"http://a.example/{i}", f"{i}"): i / 200 if i % 7 else None for i in range(100) if i % 10}
    assert by_key == {key: None if x is None else pytest.approx(x) for key, x in expected.items()}
    assert scored(out, download, scorer) == manifest and scorer.batches == [64, 26]


def test_select_drops_low_scores_and_keeps_a_score_only_with_its_caption(
    tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any, run_select: Callable[..., Manifest]
) -> None:
    out, queries = str(tmp_path / "out"), tmp_path / "queries.txt"
    queries.write_text("dog\ncat\n")
    rows = [
        raw_row("good", [("a dog", [0])], look=1),
        raw_row("bad", [("no dog", [0])], look=2),
        raw_row("unknown", [("what", [0])], look=3),
        raw_row("other", [("frequent", [0]), ("rare", [1])], look=4),
    ]
    download = raw(out, {"00000-0000": rows})
    scores = scored(out, download, ByCaption({"a dog": 0.5, "no dog": 0.25, "frequent": 0.75}))
    config = SelectConfig(min_clip_score=0.375)
    counts, t = np.array([1_000_000, 1]), float("inf")
    manifest = run_select(out, download, counts, t, str(queries), config=config, seed=1, scores=scores)
    assert manifest.dropped == {"low_score": 1}
    kept = pq.read_table(fs.join(out, manifest.parts[0].files["rows"].name)).cast(KEEP)
    by_caption = dict(zip(kept["caption"].to_pylist(), kept["clip_score"].to_pylist(), strict=True))
    assert by_caption == {"a dog": 0.5, "what": None, "rare": None}  # "rare" was never scored


def test_scores_of_another_shard_are_refused(tmp_path: Path, raw: Callable[..., Manifest], raw_row: Any) -> None:
    out = str(tmp_path / "out")
    download = raw(out, {f"00000-000{i}": [raw_row(f"{i}", [("x", [0])], look=1)] for i in (0, 1)})
    one, two = raw_shards(download)
    with pytest.raises(DamagedFile, match="is not that of its sha256.*--rebuild-from download"):
        score.scores(out, FetchedShard("x", one.tar, two.parquet), ByCaption({}))
    with pytest.raises(InputError, match="cut off"):
        fs.write_bytes(fs.join(out, one.tar), fs.read_bytes(fs.join(out, one.tar))[:100])
        score.scores(out, one, ByCaption({}))


def test_an_empty_shard_has_an_empty_table(tmp_path: Path, raw: Callable[..., Manifest]) -> None:
    out = str(tmp_path / "out")
    [shard] = raw_shards(raw(out, {"00000-0000": []}))
    assert score.scores(out, shard, ByCaption({})).equals(pa.table(SCORES.empty_table()))
