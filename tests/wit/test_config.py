"""What a build may be asked for, and what is refused before anything begins."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from wit.config import BuildConfig, for_web
from wit.errors import InputError
from wit.plan.config import PlanConfig
from wit.publish.config import PublishConfig
from wit.select.config import SelectConfig
from wit.sources import SourceConfig
from wit.stages import STAGES

USUAL = ["candidates", "plan", "download", "select", "publish", "report"]


@pytest.mark.parametrize(
    "stages, names",
    [
        (None, USUAL),
        ("publish, plan", ["plan", "publish"]),
        (",score,,score ,", ["score"]),
        ("", []),
        (",".join(reversed(STAGES)), list(STAGES)),
    ],
)
def test_stages_run_in_the_order_of_the_road(stages: str | None, names: list[str]) -> None:
    assert (BuildConfig() if stages is None else BuildConfig(stages=stages)).stage_names() == names


@pytest.mark.parametrize(
    "knobs, said",
    [
        ({"dry_run": True, "rebuild_from": "plan"}, "--dry-run throws nothing away: leave out --rebuild-from"),
        ({"stages": "plan,zzz,aaa"}, "no such stage: aaa; have candidates, "),
        ({"retry_reason": "tmeout"}, r"--retry-reason tmeout: no such reason of a failed download; .*mean timeout\?"),
        ({"source": ()}, "--source is empty: give demo"),
        ({"picture_bytes": 0}, "--picture-bytes is 0"),
        ({"seed": 2**63}, "--seed is"),
        ({"seed": -(2**63) - 1}, "--seed is"),
        ({"workers": 4_097}, "--workers is 4097"),
    ],
)
def test_what_cannot_be_built_is_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        BuildConfig(**knobs)


@pytest.mark.parametrize(
    "knobs",
    [
        {"dry_run": True},
        {"rebuild_from": "plan"},
        {"seed": 2**63 - 1},
        {"seed": -(2**63)},
        {"workers": 4_096},
        {"picture_bytes": 1},
        {"picture_bytes": 1_000_000_000},
    ],
)
def test_the_ends_of_what_can_be_are_part_of_it(knobs: dict[str, Any]) -> None:
    assert BuildConfig(**knobs) == replace(BuildConfig(), **knobs)


@pytest.mark.parametrize(
    "stages, checkpoint, score, said",
    [
        ("score", None, None, "the score stage needs a trained model: add --score-checkpoint DIR"),
        ("plan", "model", None, "--score-checkpoint is for the score stage: add score to --stages"),
        ("plan", None, 0.2, "--min-clip-score needs scores: add score to --stages"),
        ("plan", None, 0.0, "--min-clip-score needs scores"),
        ("plan", None, None, None),
        ("score", "model", None, None),
        ("score", "model", 0.2, None),
    ],
)
def test_scores_need_a_model_and_a_stage(stages: str, checkpoint: str | None, score: float | None, said: str) -> None:
    config = BuildConfig(stages=stages, score_checkpoint=checkpoint, select=SelectConfig(min_clip_score=score))
    if said is None:
        config.check_score()
        return
    with pytest.raises(InputError, match=said):
        config.check_score()


def test_reasons_are_those_that_pass_and_those_that_are_named() -> None:
    passing = set(BuildConfig(retry_failed=True).retried_reasons())
    assert "timeout" in passing and "http_gone" not in passing
    assert BuildConfig().retried_reasons() == ()
    assert BuildConfig(retry_reason=" http_gone ,robots_disallowed,").retried_reasons() == (
        "http_gone",
        "robots_disallowed",
    )
    assert set(BuildConfig(retry_reason="http_gone", retry_failed=True).retried_reasons()) == passing | {"http_gone"}


@pytest.mark.parametrize("workers, readers, per_s", [(4, 0, 0.5), (1, 8, 0.25), (4, 8, 0.25)])
def test_the_readers_of_a_job_share_its_requests(workers: int, readers: int, per_s: float) -> None:
    config = BuildConfig(workers=workers, sources=SourceConfig(source_readers=readers))
    assert config.budget().interval_s() == 1 / per_s


def test_there_is_a_worker_a_core_unless_told() -> None:
    assert BuildConfig().processes() == (os.cpu_count() or 1) and BuildConfig(workers=3).processes() == 3


@pytest.mark.parametrize("asked, used", [(100, 100), (1_000_000, None)])
def test_the_demonstration_has_several_shards_and_no_patience(asked: int, used: int | None) -> None:
    """Smaller ones stay as they were asked for."""
    config = BuildConfig(
        seed=7, plan=PlanConfig(rows_per_raw_shard=asked, oversample=3), publish=PublishConfig(samples_per_shard=asked)
    )
    found = for_web(config, [("a.example", "127.0.0.1", 8_080)])
    assert (found.plan.rows_per_raw_shard, found.publish.samples_per_shard) == (used or 500, used or 1_000)
    assert (found.seed, found.plan.oversample) == (7, 3)
    assert found.fetch.endpoints == (("a.example", "127.0.0.1", 8_080),) and not found.fetch.host_rate_per_s
    assert found.fetch.user_agent == config.fetch.user_agent
