from collections.abc import Sequence

import pytest

from wit.remedies import Problem, sentences, stage_of

ALL = ("candidates", "plan", "download", "select", "publish")
ROWS = "select/part-00000-0000.0123456789ab.parquet"


@pytest.mark.parametrize(
    "name, stage",
    [
        ("raw/00000-0000.json", "download"),
        ("restricted/download-00000-0000.x.parquet", "download"),
        ("dropped/select-part-00000-0001.x.parquet", "select"),
        ("dropped/stranger.bin", None),
        ("shards/", "publish"),
        ("shards", "publish"),
        ("ledger/hosts.parquet", "report"),
        ("README.md", "report"),
        ("run.json", None),
        ("_demo/x.warc.wat.gz", None),
    ],
)
def test_every_file_is_of_the_stage_that_writes_it(name: str, stage: str | None) -> None:
    assert stage_of(name) == stage


def lost(name: str) -> Problem:
    return Problem(name, "missing", lost=True, gone=True)


@pytest.mark.parametrize(
    "problems, finished, last",
    [
        ([lost("shards/00000.tar")], ALL, "start the build again, which makes it anew"),
        (
            [Problem("shards/00000.tar", "flipped")],
            ALL,
            "build again with --rebuild-from publish, which makes it anew from",
        ),
        (
            [lost("shards/00000.tar")],
            ("select", "publish"),
            "raw/, which it is made from, is gone or damaged: put a copy",
        ),
        (
            [lost("raw/0.x.tar"), lost("shards/00000.tar")],
            ALL,
            "raw/, which it is made from, is gone or damaged: put a",
        ),
        # A marker is written again of the manifest.
        ([lost("raw/00000-0000.json"), lost("shards/00000.tar")], ALL, "start the build again, which makes it anew"),
        ([lost(ROWS)], ALL, "start the build again, which makes it anew"),
        (
            [lost(ROWS)],
            ("plan", "select", "publish"),
            "raw/, which it is made from, is gone or damaged: put a copy back, or",
        ),
        # What is still to be made is made of what lies before it, whatever that takes.
        ([lost(ROWS)], ("plan", "select"), "start the build again, which makes it anew"),
        ([Problem("select/_MANIFEST.json", "damaged"), lost(ROWS)], ALL, "first mend select/_MANIFEST.json"),
        # Not "move it away": the manifest that does not name it may be the one that is damaged.
        (
            [Problem("x/select", "", how="x"), Problem("select/x", "not of this set", how="move it away")],
            ALL,
            "move it away",
        ),
        (
            [Problem("select/x", "not of this set", how="move it away"), Problem("select/_MANIFEST.json", "damaged")],
            ALL,
            "first mend select/_MANIFEST.json",
        ),
        (
            [lost("run.json")],
            ("plan", "publish"),
            "it holds the seed and the settings of the set: put a copy back, or choose",
        ),
    ],
)
def test_what_mends_a_file_hangs_on_what_else_is_left(
    problems: Sequence[Problem], finished: Sequence[str], last: str
) -> None:
    assert sentences(problems, finished)[-1].rpartition("; ")[2].startswith(last)


@pytest.mark.parametrize(
    "name, finished, how",
    [
        (
            "select/_MANIFEST.json",
            ALL,
            "put back a copy of it and of what else is gone beside it, or delete select/, which",
        ),
        ("shards/MANIFEST.json", ALL, "start the build again, which makes it anew"),
        ("shards/MANIFEST.json", ("select",), "raw/, which it is made from, is gone or damaged: put a copy back, or"),
    ],
)
def test_a_manifest_that_cannot_be_written_again_says_so(name: str, finished: Sequence[str], how: str) -> None:
    assert f"{name}: missing; {how}" in sentences([lost(name)], finished, lambda stage: False)[0]


def test_of_a_file_that_is_gone_nothing_else_is_said_and_what_hides_the_rest_comes_first() -> None:
    problems = [Problem("plan/x.parquet", "not readable"), lost("plan/x.parquet"), lost("run.json")]
    said = sentences(problems, ALL)
    assert [line.partition(";")[0] for line in said] == ["run.json: missing", "plan/x.parquet: missing"]


def test_all_that_is_said_of_a_file_names_the_same_mend() -> None:
    name = "shards/00000.parquet"
    said = sentences([Problem(name, "7 bytes, the manifest says 8", lost=True), Problem(name, "6 rows")], ALL)
    assert len(said) == 2 and all(line.endswith("; start the build again, which makes it anew") for line in said)
