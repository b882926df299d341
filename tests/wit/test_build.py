"""What is checked before a build writes anything, and what run.json takes over from the last start."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from wit import build, layout
from wit.config import BuildConfig
from wit.errors import InputError
from wit.fetch.config import FetchConfig
from wit.resume import Stage
from wit.runfile import Rebuild, Record, Retry, RunFile
from wit.sources import SourceConfig
from wit.store import fs


def touch(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def queries(tmp_path: Path) -> str:
    return str(touch(tmp_path / "queries.txt", "red fox\nblue dog\n"))


def test_paths_are_absolute_for_workers_and_those_of_stores_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fetch = FetchConfig(host_limits="limits.toml")
    config = build.absolute(BuildConfig(queries="q.txt", output="s3://bucket/set", fetch=fetch))
    assert (config.queries, config.output) == (str(tmp_path / "q.txt"), "s3://bucket/set")
    assert config.fetch.host_limits == str(tmp_path / "limits.toml") and config.score_checkpoint is None
    assert build.absolute(BuildConfig()).fetch.host_limits == ""


@pytest.mark.parametrize(
    "name",
    ["", ".lock", "_lease/00000001.json", "_demo/CC-DEMO-2026-01-00000.warc.wat.gz", "_tmp/x", "run.json.1.ab.tmp"],
)
def test_what_a_build_leaves_before_it_begins_is_no_stranger(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    if name:
        touch(tmp_path / "out" / name)
    build.check_output(str(tmp_path / "out"), None)
    build.check_output(str(tmp_path / "none"), None)


def test_a_directory_of_something_else_and_a_file_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "out" / "holiday.jpg")
    with pytest.raises(InputError, match=r"holds files of something else \(holiday.jpg, ...\): choose an empty"):
        build.check_output(str(tmp_path / "out"), None)
    with pytest.raises(InputError, match="is a file: choose a directory"):
        build.check_output(str(tmp_path / "out" / "holiday.jpg"), None)


def test_a_set_whose_run_json_is_gone_goes_on_with_its_seed_alone(tmp_path: Path) -> None:
    touch(tmp_path / layout.manifest_path("out", "plan"))
    with pytest.raises(InputError, match="run.json is gone"):
        build.check_output(str(tmp_path / "out"), None)
    build.check_output(str(tmp_path / "out"), 7)


@pytest.mark.parametrize("name", sorted(layout.DIRECTORIES))
def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "run.json")
    touch(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} stands where a directory belongs: move it away"):
        build.check_output(str(tmp_path), None)


def test_work_in_progress_goes_and_when_hosts_may_be_asked_again_stays(tmp_path: Path) -> None:
    stay = ["_tmp/places", "run.json", "ledger/hosts.parquet", "report/index.html", "raw/x.tmp"]
    go = ["_tmp/1-ab/x.parquet", "_tmp/x", "run.json.1.ab.tmp", "ledger/x.tmp", "report/index.html.2.cd.tmp"]
    for name in (*stay, *go):
        touch(tmp_path / name)
    build.clear_up(str(tmp_path))
    assert fs.find(str(tmp_path)) == sorted(stay)


def test_sources_are_files_by_absolute_path_that_tables_call_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queries: str
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "urls.tsv", "url\tcaption\nhttp://a.example/x.jpg\ta red fox\n")
    config = BuildConfig(queries=queries, source=("table:urls.tsv",), fetch=FetchConfig(contact="me@a.example"))
    (file,) = build.check_sources(config)
    assert (file.path, file.label, file.name) == (str(tmp_path / "urls.tsv"), "urls.tsv", "urls.tsv")
    columns = SourceConfig(url_col="link")
    with pytest.raises(InputError, match="link"):
        build.check_sources(dataclasses.replace(config, sources=columns))


def test_strangers_are_asked_with_a_contact_alone(tmp_path: Path, queries: str) -> None:
    touch(tmp_path / "urls.tsv", "url\tcaption\nhttp://a.example/x.jpg\ta red fox\n")
    config = BuildConfig(queries=queries, source=(f"table:{tmp_path}/urls.tsv",))
    with pytest.raises(InputError, match="--contact is missing"):
        build.check_sources(config)
    assert build.check_sources(dataclasses.replace(config, stages="candidates,plan"))
    assert build.check_sources(dataclasses.replace(config, source=("demo",))) == []


@pytest.mark.parametrize("knob", ["language_model", "host_limits", "blocked_hashes", "ca_file"])
def test_a_file_that_a_flag_names_is_looked_at_before_anything_starts(tmp_path: Path, knob: str) -> None:
    config, none = BuildConfig(), str(tmp_path / "none")
    given = {
        "language_model": {"candidates": dataclasses.replace(config.candidates, language_model=none)},
        "host_limits": {"fetch": FetchConfig(host_limits=none)},
        "blocked_hashes": {"image": dataclasses.replace(config.image, blocked_hashes=(none,))},
        "ca_file": {"fetch": FetchConfig(ca_file=none)},
    }[knob]
    build.check_files(config)
    with pytest.raises(InputError, match="none"):
        build.check_files(dataclasses.replace(config, **given))


def test_run_json_says_what_the_set_was_made_with(queries: str) -> None:
    run = build.begin(BuildConfig(queries=queries), [], ("--runner=X",), None, None)
    assert run.beam_flags == ("--runner=X",) and run.versions["python"] and run.versions["pyarrow"]
    assert run.section("sources")["limit"] is None and run.config["queries"] == queries


def begun(queries: str, before: RunFile | None = None, **knobs: Any) -> RunFile:
    return build.begin(BuildConfig(queries=queries, **knobs), [], (), None, before)


def test_the_seed_is_drawn_once(queries: str) -> None:
    first, other = begun(queries), begun(queries)
    assert first.seed != other.seed  # one in 2^63
    assert begun(queries, first).seed == first.seed and begun(queries, first, seed=5).seed == 5


def test_a_start_takes_over_what_the_last_one_left(queries: str) -> None:
    last = begun(queries)
    last.fingerprints["plan"], last.timings_s["plan"], last.peak_memory_mb = "f", 2.0, 70.0
    last.asked_again = {"503": 3}
    last.stages, last.at_work = {"plan": Record(fingerprint="f")}, ["plan"]
    run = begun(queries, last)
    assert (run.fingerprints, run.timings_s, run.peak_memory_mb) == ({"plan": "f"}, {"plan": 2.0}, 70.0)
    assert run.records == last.records and run.at_work == ["plan"] and run.asked_again == {"503": 3}
    last.at_work = None  # an earlier version, which did not say: it may have been at any
    assert begun(queries, last).at_work == [*layout.KINDS]


def test_what_is_thrown_away_is_what_was_asked_for_once(queries: str) -> None:
    first = begun(queries, rebuild_from="select", stages="candidates,plan,download,select,publish")
    assert first.rebuild == Rebuild("select", ["select", "publish"], [])
    first.rebuild.pending, first.rebuild.begun = ["publish"], ["select"]  # it was killed there
    assert begun(queries, first, rebuild_from="select").rebuild == first.rebuild
    assert begun(queries, first).rebuild == first.rebuild
    assert begun(queries, first, rebuild_from="publish").rebuild == Rebuild("publish", ["publish", "report"], [])


def finished(rounds: int) -> Stage:
    """A download of which one row timed out and one was not found."""
    dropped = {"timeout": 1, "http_not_found": 1}
    return Stage("download", None, None, Record(fingerprint="f", into=3, out=1, dropped=dropped, retries=rounds))


ASKED = ["download", "select", "publish", "report"]


@pytest.mark.parametrize(
    "knobs, rounds, expected",
    [
        ({}, 2, (Retry(), 2)),
        ({"retry_failed": True}, 0, (["timeout"], 1)),
        ({"retry_reason": "http_not_found"}, 1, (["http_not_found"], 2)),
        ({"retry_reason": "http_gone"}, 1, (Retry(), 1)),  # nothing was lost to it
    ],
)
def test_a_round_of_retries_is_begun_where_there_is_something_to_retry(
    queries: str, knobs: dict[str, Any], rounds: int, expected: tuple[Any, int]
) -> None:
    config = BuildConfig(queries=queries, **knobs)
    retry, number = build.round_of_retries(config, begun(queries, **knobs), finished(rounds))
    assert number == expected[1]
    if isinstance(expected[0], Retry):
        assert retry == expected[0]
    else:
        assert set(expected[0]) <= set(retry.reasons) and (retry.round, retry.pending) == (number, ASKED)


def test_a_round_that_was_killed_is_gone_on_with_by_the_same_command_alone(queries: str) -> None:
    config = BuildConfig(queries=queries, retry_reason="timeout")
    run = begun(queries, retry_reason="timeout")
    run.retry = Retry(["timeout"], 1, ["select"])
    for rounds in (0, 1):  # its raw shards are there, or are not yet
        assert build.round_of_retries(config, run, finished(rounds)) == (run.retry, 1)
    assert build.round_of_retries(config, run, finished(2)) == (Retry(["timeout"], 3, ASKED), 3)
    other = dataclasses.replace(config, retry_reason="http_not_found")
    assert build.round_of_retries(other, run, finished(1)) == (Retry(["http_not_found"], 2, ASKED), 2)


def test_a_download_that_is_made_anew_has_no_rounds(queries: str) -> None:
    run = begun(queries, rebuild_from="download", retry_reason="timeout")
    config = BuildConfig(queries=queries, rebuild_from="download", retry_reason="timeout")
    assert build.round_of_retries(config, run, finished(3)) == (Retry(["timeout"], 1, ASKED), 1)


@pytest.mark.parametrize("out", ["http://a.example/set", "https://a.example/set"])
def test_what_can_only_be_read_is_no_output(out: str) -> None:
    with pytest.raises(InputError, match="can only be read"):
        build.check_output(out, None)


def test_strangers_are_not_asked_with_the_demonstrations_lack_of_patience(tmp_path: Path, queries: str) -> None:
    touch(tmp_path / "urls.tsv", "url\tcaption\nhttp://a.example/x.jpg\ta red fox\n")
    table = f"table:{tmp_path}/urls.tsv"
    for source in (("demo", table), (table, "demo")):
        config = BuildConfig(queries=queries, source=source, fetch=FetchConfig(contact="me@a.example"))
        with pytest.raises(InputError, match="--source demo is asked without any patience"):
            build.check_sources(config)
    assert build.check_sources(BuildConfig(queries=queries, source=("demo", "demo"))) == []
