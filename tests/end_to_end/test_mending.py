"""What verify says mends a set does mend it, followed to the letter, for every kind of file in it."""

import fnmatch
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from pipelines.verify import main as verify_command
from wit.publish import order
from wit.runfile import sealed
from wit.select import passes
from wit.stages import KINDS
from wit.verify import verify

SHARD = "[0-9]" * 5
# One file of each is damaged.
FILES = (
    *("README.md", "croissant.json", "ledger.json", "ledger/*.parquet", "report/index.html", "run.json"),
    *("candidates/_MANIFEST.json", "candidates/part-*[0-9].json", "candidates/part-*.parquet"),
    *("plan/_MANIFEST.json", "plan/part-*.json", "plan/part-*.parquet", "plan/queries.json", "plan/queries.*.parquet"),
    *(PASSES := [f"plan/{unit}.json" for unit in ("admit-*", "merge-*", "rates", "scatter-*", "thin-*")]),
    *("raw/_MANIFEST.json", "raw/*-*[0-9].json", "raw/*.tar", "raw/*.fetch.parquet", "raw/*-????.????????????.parquet"),
    "raw/*.robots.json",
    *("select/_MANIFEST.json", "select/part-*.json", "select/part-*.parquet"),
    *("dropped/candidates-*.parquet", "dropped/select-*.parquet"),
    *(f"shards/{SHARD}{end}" for end in (".tar", ".parquet", "_stats.json")),
    *("shards/MANIFEST.json", "shards/sizes.json"),
)
# To follow what is said of these takes seconds, since the web is asked again; one is tried in every run of the suite.
FETCHED = ("run.json", "raw/*.tar", "raw/*.fetch.parquet", "raw/*-????.????????????.parquet")
SELDOM = {*FETCHED, *PASSES[1:]} - {"raw/*.tar"}
OFTEN_WITHOUT_RAW = ("select/part-*.parquet", f"shards/{SHARD}.tar", "shards/MANIFEST.json")


def slow_unless(often: bool, *case: str) -> Any:
    return pytest.param(*case, marks=() if often else pytest.mark.slow)


def files() -> list[str]:
    paths = [path for path in sorted(Path("set").rglob("*")) if path.is_file() and "_tmp" not in path.parts]
    return [str(path.relative_to("set")) for path in paths if path.name != ".lock"]


def test_every_file_of_a_set_is_of_one_kind(command: list[str]) -> None:
    of = {name: [kind for kind in FILES if fnmatch.fnmatch(name, kind)] for name in files()}
    assert {name: kinds for name, kinds in of.items() if len(kinds) != 1} == {}
    assert set(FILES) == {kind for kinds in of.values() for kind in kinds}


def harmed(name: str, how: str) -> None:
    path = Path("set", name)
    data = path.read_bytes()
    middle = len(data) // 2
    path.unlink()
    if how == "flipped":
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def alternatives(line: str) -> list[str]:
    """What mends a problem, out of its line: the ways between which there is an "or"."""
    return line.rpartition("; ")[2].split(", or ")


def follow(line: str, way: str, command: list[str], whole: Path) -> str:
    """Does what a line says; returns the directory of the set that is to be sound then."""
    name = line.partition(": ")[0]
    flags = [word.rstrip(",") for flag in re.findall(r"--(?:rebuild-from|stages) \S+", way) for word in flag.split()]
    if way == "choose another --output":
        assert main([*command, "--output", "other"]) == 0
        return "other"
    if "put a copy back" in way:
        Path("set", name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if name.endswith("/") else shutil.copyfile
        copy(whole / name, Path("set", name))
    elif needless := re.match(r"delete (\w+)/", way):
        shutil.rmtree(Path("set", needless[1]))
    else:
        if way.startswith(("delete it", "move it away")):
            Path("set", name).unlink()
        if flags or re.search("start the build again|the next start", way):
            assert main([*command, *flags]) == 0
    return "set"


def mended(command: list[str], whole: Path) -> None:
    """Follows every alternative of the first line that verify says, and the first one of what is left then."""
    shutil.copytree("set", "harmed")
    first = verify("set", "full").problems
    assert set(verify("set").problems) <= set(first) and all("; " in line for line in first)
    for way in alternatives(first[0]):
        shutil.rmtree("set")
        shutil.copytree("harmed", "set")
        out = follow(first[0], way, command, whole)
        for _ in range(3):
            if left := verify(out, "full").problems:
                assert out == "set"
                follow(left[0], alternatives(left[0])[0], command, whole)
        assert verify(out, "full").problems == (), (first[0], way)


@pytest.mark.parametrize(
    "kind, how",
    [
        slow_unless(kind not in SELDOM and (how == "gone") == (place % 2 == 0 or kind == "raw/*.tar"), kind, how)
        for place, kind in enumerate(FILES)
        for how in ("gone", "flipped")
    ],
)
def test_what_verify_says_mends_a_file_mends_it(kind: str, how: str, command: list[str]) -> None:
    shutil.copytree("set", "whole")
    harmed(fnmatch.filter(files(), kind)[0], how)
    if kind == "raw/*.robots.json" and how == "gone":
        verdict = verify("set", "full")
        assert verdict.problems == () and "nothing but the next download reads it" in verdict.notes[0]
        Path("set/raw/00000.robots.json").mkdir()
        assert "raw/00000.robots.json: no file: move away what stands there; " in verify("set").problems[0]
        return
    mended(command, Path("whole"))


@pytest.mark.parametrize(
    "kind, how",
    [
        slow_unless(kind in OFTEN_WITHOUT_RAW and how == "gone", kind, how)
        for kind in FILES
        for how in ("gone", "flipped")
        if not kind.startswith("raw/")
    ],
)
def test_without_raw_it_says_what_can_be_done_then(kind: str, how: str, command: list[str]) -> None:
    shutil.rmtree("set/raw")
    shutil.copytree("set", "whole")
    harmed(fnmatch.filter(files(), kind)[0], how)
    said = verify("set", "full").problems
    if kind.startswith(("shards/", "report/", "ledger/")) and kind != "shards/MANIFEST.json":
        assert said and all("raw/, which it is made from, is gone or damaged: put a copy back, or" in s for s in said)
    mended(command, Path("whole"))


# Whole stages.


@pytest.mark.variants(4)
@pytest.mark.parametrize(
    "gone, problem, note",
    [
        (["download"], None, "raw/ was deleted after it was finished"),
        (["candidates", "plan", "download", "select"], None, "select/ was deleted after it was finished"),
        (["publish"], "shards/: gone, with the 25 samples that were published; start the build again, which", None),
        (
            ["publish", "download"],
            "shards/: gone, with the 25 samples that were published; raw/, which it is made",
            None,
        ),
        (["report"], "report/index.html: missing; start the build again, which makes it anew", None),
        (["ledger"], "ledger/hosts.parquet: missing; start the build again, which makes it anew", None),
        (["ledger", "download"], "ledger/hosts.parquet: missing; raw/, which it is made from, is gone", None),
    ],
)
def test_a_stage_that_was_deleted_is_missed_where_the_set_needs_it(
    gone: list[str], problem: str | None, note: str | None, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("set", "whole")
    for stage in gone:
        shutil.rmtree(Path("set", KINDS[stage].directory if stage in KINDS else stage))
    verdict = verify("set")
    assert bool(verdict.problems) == bool(problem) and verdict.to_come == ()
    assert problem is None or any(line.startswith(problem) for line in verdict.problems)
    assert note is None or any(line.startswith(note) for line in verdict.notes)
    assert verify_command(["set", "--level", "full"]) == (1 if problem else 0)
    if problem:
        mended(command, Path("whole"))


def test_raw_that_was_deleted_before_it_was_published_is_a_problem(command: list[str]) -> None:
    assert main([*command, "--output", "half", "--stages", "candidates,plan,download"]) == 0
    assert verify("half").problems == () and verify("half").to_come == ("select", "publish", "report")
    shutil.rmtree("half/raw")
    (problem,) = verify("half").problems
    assert problem.startswith(
        "raw/: gone, and the set that is to be made of it is not published yet; put a copy back, or"
    )
    assert main([*command, "--output", "half", "--rebuild-from", "download"]) == 0
    assert verify("half", "full").problems == ()


# Several at once.


def flipped(pattern: str) -> str:
    path = sorted(Path("set").glob(pattern))[0]
    harmed(name := str(path.relative_to("set")), "flipped")
    return name


@pytest.fixture
def restricted(command: list[str], upgrade: Any) -> list[str]:
    """The arguments that made the set again, with one picture on a list of blocked hashes."""
    digest = hashlib.sha256(upgrade.picture(12)).hexdigest()
    Path("blocked.txt").write_text(f"{digest}\n", encoding="utf-8")
    shutil.rmtree("set")
    command += ["--blocked-hashes", "blocked.txt"]
    assert main(command) == 0
    return command


@pytest.mark.variants(1)
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_what_no_stage_reads_does_not_keep_shards_from_being_made(how: str, restricted: list[str]) -> None:
    shutil.copytree("set", "whole")
    shutil.rmtree("set/shards")
    (name,) = (name for name in files() if name.startswith("restricted/"))
    harmed(name, how)
    of_it, shards = sorted(verify("set", "full").problems)
    assert shards.startswith("shards/: gone") and shards.endswith("; start the build again, which makes it anew")
    assert of_it.startswith(f"{name}: ") and of_it.endswith("which asks the web for everything again")
    assert main(restricted) == 0
    (left,) = verify("set", "full").problems
    assert left.startswith(f"{name}: ") and left.endswith("or delete raw/, which a finished set does not need")


@pytest.mark.parametrize("stats", [True, False])
def test_what_is_made_anew_is_so_although_its_manifest_is_damaged(stats: bool, command: list[str]) -> None:
    shutil.rmtree("set/raw")
    Path("set/shards/MANIFEST.json").write_bytes(b"{}")
    if not stats:
        sorted(Path("set/shards").glob("*_stats.json"))[0].unlink()
        assert "--rebuild-from download" in verify("set").problems[0]
    assert main([*command, "--rebuild-from", "download"]) == 0
    assert verify("set", "full").problems == ()


def test_a_damaged_manifest_of_a_stage_that_stays_is_refused_and_nothing_is_touched(command: list[str]) -> None:
    flipped("raw/_MANIFEST.json")
    before = {name: Path("set", name).read_bytes() for name in files()}
    assert main([*command, "--rebuild-from", "select"]) == 2
    assert {name: Path("set", name).read_bytes() for name in files()} == before


@pytest.mark.parametrize("name", ["raw/_MANIFEST.json", "shards/MANIFEST.json", "plan/_MANIFEST.json"])
def test_a_directory_in_the_place_of_a_manifest_is_said_once(
    name: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set", name).unlink()
    Path("set", name).mkdir()
    (problem,) = verify("set", "full").problems
    assert problem.startswith(f"{name}: no file: move away what stands there; start the build again, which writes it ")
    assert (
        main([*command, "--rebuild-from", name.split("/")[0].replace("raw", "download").replace("shards", "publish")])
        == 2
    )
    assert capsys.readouterr().err.endswith("is damaged (it is no file): move away what stands there and start again\n")
    Path("set", name).rmdir()
    assert main(command) == 0
    assert verify("set", "full").problems == ()


def test_what_is_made_from_what_is_gone_waits_until_the_shards_are_mended(command: list[str]) -> None:
    shutil.copytree("set", "whole")
    shutil.rmtree("set/candidates")
    harmed(fnmatch.filter(files(), "plan/part-*.parquet")[0], "gone")
    shard = flipped("shards/*.tar")
    said = {line.partition(":")[0]: line for line in verify("set", "full").problems}
    assert [line.rpartition("; ")[2] for name, line in said.items() if name.startswith("plan/")] == [
        f"first mend {shard}"
    ]
    follow(said[shard], alternatives(said[shard])[0], command, Path("whole"))
    assert verify("set", "full").problems == ()


# Sets that are not finished.


def test_a_set_that_is_not_finished_says_what_is_and_how_to_go_on(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for done, to_come in (("candidates", "plan, download, "), ("candidates,plan", "download, "), ("download", "")):
        assert main([*command, "--output", "half", "--stages", done]) == 0
        capsys.readouterr()
        assert verify_command(["half"]) == 0
        said = capsys.readouterr().out.splitlines()[-1]
        assert "half: not finished: sound at level metadata: candidates" in said
        assert f"; still to come: {to_come}select, publish, report. To go on start python -m pipelines.build" in said
    assert main([*command, "--output", "half"]) == 0
    verify_command(["half"])
    assert (
        "half: sound at level metadata: stages candidates, plan, download, select, publish;" in capsys.readouterr().out
    )


def test_a_set_that_was_stopped_before_anything_was_finished_is_a_set(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr("pipelines.candidates.run_candidates", lambda context: 1 / 0)
        main([*command, "--output", "begun"])
    assert verify_command(["begun"]) == 0
    assert "begun: not finished: no stage is finished; still to come: candidates, plan, dow" in capsys.readouterr().out


@pytest.mark.variants(2)
@pytest.mark.parametrize(
    "more, module, name, to_come",
    [
        (["--rebuild-from", "download"], passes, "count", ("select", "publish", "report")),
        (["--rebuild-from", "select"], order, "plan_shards", ("publish", "report")),
        (["--retry-failed"], passes, "count", ("select", "publish", "report")),
        (["--min-image-side-px", "39"], order, "plan_shards", ("publish", "report")),
    ],
)
def test_a_set_that_is_being_made_anew_is_not_finished_and_nothing_of_it_is_a_stranger(
    more: list[str],
    module: Any,
    name: str,
    to_come: tuple[str, ...],
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(module, name, lambda *_, **__: 1 / 0)
        main([*command, *more])
    verdict = verify("set", "full")
    assert (
        verdict.to_come == to_come
        and verdict.stages == ("candidates", "plan", "download", "select")[: 6 - len(to_come)]
    )
    assert not any("not of this set" in line or "delete raw/" in line for line in verdict.problems)
    assert main([*command, *more]) == 0
    verdict = verify("set", "full")
    assert (verdict.problems, verdict.to_come) == ((), ())


# Pictures that nobody looked at.


@pytest.fixture
def kept(command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments that made the set `kept`, in which two pictures are cut and were stored as they came."""
    picture = upgrade.picture

    def cut(number: int) -> bytes:
        png: bytes = picture(number)
        return png[: len(png) // 2] + png[-12:] if number in (4, 5) else png  # with its end mark

    monkeypatch.setattr(upgrade, "picture", cut)
    command += ["--output", "kept", "--keep-original", "--no-perceptual-hashes", "--check-pixels", "none"]
    assert main(command) == 0
    return command


def test_pictures_that_were_stored_unlooked_at_are_counted_in_a_note(
    kept: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for level in ("full", "metadata"):
        capsys.readouterr()
        assert verify_command(["kept", "--level", level]) == 0
        said = capsys.readouterr().out
        assert f"kept: sound at level {level}: " in said and ("note" in said) == (level == "full")
        assert (
            level != "full"
            or "note: 2 of 26 pictures that were read do not decode: the set was built with --che" in said
        )
    tar = sorted(Path("kept/shards").glob("*.tar"))[0]
    data = tar.read_bytes()
    tar.write_bytes(data.replace(b"IDAT", b"IDOT"))
    assert any("is not that of its sha256" in line for line in verify("kept", "full").problems)
    tar.write_bytes(data)
    assert main([*kept, "--check-pixels", "fast", "--rebuild-from", "download"]) == 0
    capsys.readouterr()
    assert verify_command(["kept", "--level", "full"]) == 0 and "note" not in capsys.readouterr().out


def test_pictures_that_do_not_decode_are_a_problem_where_they_were_looked_at(kept: list[str]) -> None:
    run = json.loads(Path("kept/run.json").read_bytes())
    run["config"]["image"]["check_pixels"] = "full"
    Path("kept/run.json").write_bytes(sealed(run))
    problems = verify("kept", "full").problems
    assert len(problems) == 2 and all("does not decode" in line and "a bug of wit" in line for line in problems)
