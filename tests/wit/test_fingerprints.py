"""A fingerprint changes with everything that it stands for, and with nothing else; those of earlier versions are kept."""

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from wit import fingerprints
from wit.config import BuildConfig
from wit.fingerprints import Above, Inputs, Removed, Reworded, forms, knobs
from wit.knobs import ADDED, added
from wit.plan.config import PlanConfig
from wit.runfile import RunFile
from wit.sources import SourceConfig, SourceFile

# The knobs of version 0.1.0, of which every form of fingerprints since 1 has been made.
FIRST = {
    "candidates": "language_min_chars language_min_score language_min_words language_model languages matching "
    "max_caption_chars max_char_run max_url_chars max_word_share min_caption_chars min_caption_words min_letter_share",
    "plan": "cap max_captions_per_url max_per_query max_urls_per_caption max_urls_per_domain "
    "max_urls_per_domain_partition oversample rows_per_bucket rows_per_partition rows_per_raw_shard target",
    "image": "background blocked_hashes decode_timeout_s encode_format encode_quality extract_exif image_size "
    "keep_original max_pixels min_side_px perceptual_hashes resize_mode resize_only_if_bigger",
    "select": "max_aspect_ratio max_captions_per_sample min_clip_score min_image_side_px rows_per_dedup_bucket",
    "publish": "publish_buffer_mb raw_shards_per_group samples_per_shard",
}
IN_NO_FINGERPRINT = (
    "queries output source stages score_checkpoint rebuild_from retry_failed retry_reason dry_run picture_bytes seed workers "
    "shuffle rows_per_key cancel_running "
    "fetch sources"
)


@pytest.mark.parametrize("section", FIRST)
def test_every_knob_is_known_to_the_fingerprints_or_old_sets_would_be_thrown_away(section: str) -> None:
    first, config = set(FIRST[section].split()), BuildConfig()
    fields = dataclasses.fields(getattr(config, section))
    said = {
        field.name for field in fields if ADDED in field.metadata or f"{section}.{field.name}" in fingerprints.REWORDED
    }
    new = {field.name for field in fields} - first
    assert new <= said, "a new knob: give its field the metadata `added`, or a line in fingerprints.REWORDED"
    assert set(knobs(section, getattr(config, section), 1)) == first, "a knob is gone: give it a line in REMOVED"


def test_every_knob_of_the_build_itself_and_of_sources_is_one_of_candidates_or_of_none() -> None:
    assert {field.name for field in dataclasses.fields(BuildConfig)} <= {*IN_NO_FINGERPRINT.split(), *FIRST}
    of_sources = {"cc_base", "source_requests_per_s", "source_readers", *fingerprints.BESIDE_CANDIDATES}
    assert {field.name for field in dataclasses.fields(SourceConfig)} == of_sources


@pytest.mark.parametrize("knob, value", [("limit", 7), ("files_per_part", 2), ("url_col", "u"), ("caption_col", "c")])
def test_what_is_read_of_sources_counts_and_what_it_costs_does_not(knob: str, value: Any) -> None:
    assert newest("candidates", BuildConfig(sources=SourceConfig(**{knob: value}))) != newest("candidates")
    assert newest("candidates", BuildConfig(sources=SourceConfig(source_readers=7))) == newest("candidates")


def test_a_knob_that_nobody_reads_here_changes_no_fingerprint() -> None:
    kept = dataclasses.replace(BuildConfig().image, keep_original=True, perceptual_hashes=False)
    for image, moot in ((BuildConfig().image, True), (kept, False)):
        other = dataclasses.replace(image, check_pixels="full")
        assert (knobs("image", image, 3) == knobs("image", other, 3)) is moot


@pytest.mark.parametrize(
    "run, had",
    [
        (None, 0),
        ({"config": {}}, 0),
        ({"config": {"image": {"min_side_px": 64}}}, 64),
        ({"config": {"image": {}}, "gone": {"image.min_side_px": 64}}, 64),
    ],
)
def test_a_knob_that_is_gone_is_what_the_set_had(run: dict[str, Any] | None, had: int) -> None:
    gone = fingerprints.gone_of(run and RunFile(seed=1, queries_sha256="q", sources=(), **run))
    found = [knobs("image", BuildConfig().image, schema, gone).get("min_side_px") for schema in (1, 2, 3)]
    assert found == [had, had, None]


SOURCE = SourceFile("table", "/x/urls.tsv", label="urls.tsv", size=7, version="sha256 a")
INPUTS = Inputs(seed=5, queries="q" * 64, sources=[SOURCE])
CONFIG = BuildConfig()


def first(stage: str, config: BuildConfig = CONFIG, inputs: Inputs = INPUTS, above: Any = None) -> str:
    return forms(stage, config, inputs, above or {})[-1].fingerprint


def newest(stage: str, config: BuildConfig = CONFIG, inputs: Inputs = INPUTS, above: Any = None) -> str:
    return forms(stage, config, inputs, above or {})[0].fingerprint


PRINTED = (
    "00dd67f4c5d3b4322b6a43d66483b8ad",
    "530d3beeed7d8038d4aeabd6c98133dd",
    "1e234e5e32948c7266fdd7d4cac2c03c",
    "232fe389daa5694b4af221ed4a9ab69d",
    "da3447815e62816b7dce9741b962768d",
)


def test_the_first_form_is_that_of_version_0_1_0() -> None:
    """Digits that commit 2a16b80 printed for these settings: the fixtures of test_upgrade hold the rest."""
    candidates = first("candidates")
    plan = first("plan", above={"candidates": Above(candidates, 1, "")})
    download = first("download", above={"plan": Above(plan, 1, "")})
    select = first("select", above={"download": Above(download, 1, "", retries=2)})
    publish = first("publish", above={"select": Above(select, 1, "")})
    assert (candidates, plan, download, select, publish) == PRINTED


@pytest.mark.parametrize(
    "change, first_too",
    [
        ({"seed": 6}, True),
        ({"queries": "r" * 64}, True),
        ({"sources": []}, True),
        ({"sources": [replace(SOURCE, size=8)]}, True),
        ({"sources": [replace(SOURCE, label="other.tsv")]}, True),
        ({"sources": [replace(SOURCE, version="sha256 b")]}, False),
        ({"sources": [replace(SOURCE, path="/y/urls.tsv")]}, None),
    ],
)
def test_inputs_count_and_where_they_lie_does_not(change: dict[str, Any], first_too: bool | None) -> None:
    other = replace(INPUTS, **change)
    assert (newest("candidates") != newest("candidates", inputs=other)) is (first_too is not None)
    assert (first("candidates") != first("candidates", inputs=other)) is (first_too is True)


def test_from_download_on_what_was_written_counts() -> None:
    plan = {"plan": Above("p", 2, "rows")}
    assert newest("download", above=plan) != newest("download", above={"plan": Above("p", 2, "other rows")})
    assert newest("plan", above={"candidates": Above("c", 2, "x")}) == newest(
        "plan", above={"candidates": Above("c", 2, "y")}
    )


def test_a_stage_below_a_newer_form_has_no_first_form() -> None:
    assert [form.schema for form in forms("plan", CONFIG, INPUTS, {"candidates": Above("c", 1, "")})] == [2, 1]
    assert [form.schema for form in forms("plan", CONFIG, INPUTS, {"candidates": Above("c", 2, "")})] == [2]


@dataclass(frozen=True)
class Old:
    size: int = 3
    split: int = 50_000
    extract: bool = False


@dataclass(frozen=True)
class New:
    size: int = 3
    exif: str = "none"
    hours: float | None = field(default=72, metadata=added(since=2, before=None))
    verify: str | None = field(default=None, metadata=added(since=2, before=None))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hours` and `verify` are new in schema 2, the former with a default that is not as before; `split` is gone."""
    monkeypatch.setattr(fingerprints, "REMOVED", {"s.split": Removed(until=1, was=50_000)})
    exif = Reworded(until=1, before=lambda value: {"extract": value == "all"})
    monkeypatch.setattr(fingerprints, "REWORDED", {"s.exif": exif})


def test_a_schema_that_changes_nothing_under_the_settings_is_not_borne() -> None:
    """Sets without a target and without a hard cap are what they were, name and all."""
    above = {"download": Above("d", 3, "x")}

    def schemas(**knobs: Any) -> list[int]:
        config = dataclasses.replace(CONFIG, plan=PlanConfig(**knobs))
        return [form.schema for form in forms("select", config, INPUTS, above)]

    assert schemas() == schemas(oversample=3) == [2]
    assert schemas(target=50) == schemas(cap="hard") == [3, 2]


@pytest.mark.parametrize(
    "config, old",
    [
        (New(), Old()),
        (New(hours=None), Old()),
        (New(exif="all"), Old(extract=True)),
        (New(size=4), Old(size=4)),
        (New(hours=10), None),
        (New(verify="md5"), None),
    ],
)
def test_an_old_set_goes_on_where_new_knobs_are_left_alone_and_only_there(
    config: New, old: Old | None, tables: None
) -> None:
    assert (knobs("s", config, 1) == dataclasses.asdict(old or Old())) is (old is not None)


def test_a_new_knob_is_in_no_fingerprint_while_it_means_as_before(tables: None) -> None:
    assert knobs("s", New(), 2) == {"size": 3, "exif": "none", "hours": 72}
    assert knobs("s", New(hours=None), 2) == {"size": 3, "exif": "none"}
