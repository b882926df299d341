"""What was made is not made again, what was deleted is missed only by who needs it, and nothing is thrown away unasked."""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from pipelines.session import Session
from wit.damage import is_robots
from wit.errors import InputError
from wit.publish import order
from wit.runfile import sealed
from wit.stages import KINDS
from wit.typed import to_json
from wit.verify import verify

STAGES = ("candidates", "plan", "download", "select", "publish")


OUTSIDE = (".lock", "places")  # the lock of the builder, and when hosts may be asked again


def contents(*names: str) -> dict[str, bytes]:
    paths = [
        path for name in names for path in Path("set", name).rglob("*") if path.is_file() and path.name not in OUTSIDE
    ]
    return {str(path): path.read_bytes() for path in paths}


def remove(*stages: str) -> None:
    for stage in stages:
        shutil.rmtree(Path("set", KINDS[stage].directory))


PRODUCTS = ("shards", "report", "ledger")


@pytest.mark.variants(3)
@pytest.mark.parametrize(
    "gone", [["download"], ["candidates"], ["plan"], ["select"], ["candidates", "plan"], [*STAGES[:4]]], ids="-".join
)
def test_a_finished_set_needs_none_of_its_stages_to_stay_finished(
    gone: list[str], command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(*PRODUCTS)
    remove(*gone)
    for _ in range(2):
        assert main(command) == 0
        said = capsys.readouterr().err
        assert all(f"{stage:<10} finished before; what it wrote is gone" in said for stage in gone)
    assert contents(*PRODUCTS) == before and upgrade.Web.asked == []
    assert not any(Path("set", KINDS[stage].directory).exists() for stage in gone)
    verdict = verify("set", "full")
    assert verdict.problems == () and len(verdict.notes) == len(gone)
    assert all(
        note.endswith("/ was deleted after it was finished: what it wrote is not looked at") for note in verdict.notes
    )


@pytest.mark.parametrize(
    "more, said",
    [
        (["--min-image-side-px", "39"], "select, publish, report would need it (--min-image-side-px was 32 and is 39)"),
        (["--samples-per-shard", "5"], "publish, report would need it (--samples-per-shard was 8 and is 5)"),
        (["--retry-failed"], "would need it"),
        (["--image-size", "64"], "--image-size was 256 and is 64"),
    ],
)
def test_what_needs_raw_says_so_before_it_acts(
    more: list[str], said: str, command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    remove("download")
    before = contents("")
    assert main([*command, *more]) == 2
    told = capsys.readouterr().err
    assert said in told and "--rebuild-from download" in told and len(told.splitlines()) == 1
    assert contents("") == before and upgrade.Web.asked == []


@pytest.mark.variants(2)
@pytest.mark.parametrize("gone", [["candidates"], ["plan"], ["select"], ["candidates", "plan", "select"]], ids="-".join)
def test_stages_that_are_functions_of_others_are_made_again_where_a_change_needs_them(
    gone: list[str], command: list[str], upgrade: Any
) -> None:
    assert main([*command, "--min-image-side-px", "33"]) == 0
    expected = contents("shards", "ledger")
    assert main(command) == 0
    remove(*gone)
    assert main([*command, "--min-image-side-px", "33"]) == 0
    assert contents("shards", "ledger") == expected and upgrade.Web.asked == []
    assert verify("set", "full").problems == ()


@pytest.mark.parametrize(
    "pattern", ["plan/part-*.parquet", "plan/_MANIFEST.json", "plan/merge-*.json", "select/part-*.json"]
)
def test_a_part_a_marker_or_a_manifest_that_is_gone_is_made_again_where_it_is_needed(
    pattern: str, command: list[str], upgrade: Any
) -> None:
    next(Path("set").glob(pattern)).unlink()
    assert main([*command, "--max-aspect-ratio", "4"]) == 0
    assert verify("set", "full").problems == () and upgrade.Web.asked == []


@pytest.mark.parametrize("name", ["raw/00000-0001.json", "candidates/part-00000.json"])
def test_a_marker_that_is_gone_is_written_again_from_the_manifest(name: str, command: list[str], upgrade: Any) -> None:
    before = contents("")
    Path("set", name).unlink()
    assert main(command) == 0
    assert contents("")[f"set/{name}"] == before[f"set/{name}"] and upgrade.Web.asked == []
    assert verify("set", "full").problems == ()


def test_the_manifest_of_downloads_with_retries_is_written_again_from_what_is_there(
    command: list[str], upgrade: Any
) -> None:
    assert main([*command, "--retry-failed"]) == 0
    upgrade.Web.asked.clear()
    before = Path("set/raw/_MANIFEST.json").read_bytes()
    Path("set/raw/_MANIFEST.json").unlink()
    assert main([*command, "--samples-per-shard", "5"]) == 0
    assert Path("set/raw/_MANIFEST.json").read_bytes() == before and upgrade.Web.asked == []
    assert verify("set", "full").problems == ()


def test_a_published_tar_that_is_gone_is_made_again_or_named(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents("shards")
    for name in ("00001.tar", "00000.parquet", "00002_stats.json", "sizes.json", "MANIFEST.json"):
        Path("set/shards", name).unlink()
        assert main(command) == 0
        assert contents("shards") == before and upgrade.Web.asked == []
    assert verify("set", "full").problems == ()
    remove("download")
    Path("set/shards/00001.tar").unlink()
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "set/shards/00001.tar is gone" in said and "--rebuild-from download" in said


def test_a_raw_tar_that_is_gone_is_named_where_it_is_needed(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = next(Path("set/raw").glob("00000-0002.*.tar"))
    tar.unlink()
    assert main(command) == 0
    assert main([*command, "--samples-per-shard", "5"]) == 2
    said = capsys.readouterr().err
    assert f"{tar} is gone and publish, report would need it" in said and "--rebuild-from download" in said
    assert main([*command, "--samples-per-shard", "5", "--stages", "publish"]) == 2
    assert f"{tar} is gone and publish would need it" in capsys.readouterr().err
    assert upgrade.Web.asked == []


@pytest.mark.parametrize("name", ["run.json", "plan/_MANIFEST.json", "shards/MANIFEST.json", "raw/_MANIFEST.json"])
@pytest.mark.parametrize("damage", [b"", b'{"stage": "plan", ', b"[]", b"\xff\xfe"])
def test_a_damaged_manifest_is_one_sentence(
    name: str, damage: bytes, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set", name).write_bytes(damage)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"set/{name} is damaged" in said and len(said.splitlines()) == 1


# Rounds of retries that were stopped.


def raw_retries() -> int:
    return int(json.loads(Path("set/raw/_MANIFEST.json").read_bytes()).get("retries", 0))


@pytest.mark.variants(2)
@pytest.mark.parametrize(
    "retry", [["--retry-failed"], ["--retry-reason", "http_not_found"]], ids=lambda given: given[0]
)
@pytest.mark.parametrize("at", ["settle", "plan_shards"])
def test_a_round_of_retries_that_was_killed_is_gone_on_with_and_not_done_again(
    at: str, retry: list[str], command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before run.json says that its downloads are there; before its set is published."""
    upgrade.Web.broken = {3}  # so that there is something to retry after it, too
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr({"settle": Session, "plan_shards": order}[at], at, broken_at(at))
        main([*command, *retry])
    assert upgrade.Web.asked and raw_retries() == 1
    upgrade.Web.asked.clear()
    assert main([*command, *retry]) == 0
    assert upgrade.Web.asked == [] and raw_retries() == 1 and verify("set", "full").problems == ()
    assert main([*command, *retry]) == 0  # that one was finished: another is asked for
    assert upgrade.Web.asked and raw_retries() == 2 and verify("set", "full").problems == ()


def broken_at(name: str) -> Callable[..., Any]:
    settle = Session.settle

    def settled(session: Session, stage: str) -> bool:
        return bool(1 / 0) if stage == "download" else settle(session, stage)

    return settled if name == "settle" else lambda *_, **__: 1 / 0


def test_a_round_for_other_reasons_is_another_round(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade.Web.broken = {3}
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(order, "plan_shards", broken_at("plan_shards"))
        main([*command, "--retry-failed"])
    assert main(command) == 0 and raw_retries() == 1  # without the flag what is there is finished
    upgrade.Web.asked.clear()
    assert main([*command, "--retry-reason", "http_not_found"]) == 0
    assert upgrade.pictures_asked() == upgrade.GONE and raw_retries() == 2


# Files that are damaged.


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def riddled(data: bytes) -> bytes:
    return bytes(byte ^ (at % 500 == 0) for at, byte in enumerate(data))


def emptied(_: bytes) -> bytes:
    return b"{}"


def nameless(data: bytes) -> bytes:
    return data.replace(b'"fingerprint"', b'"xx"')


def damage(pattern: str, how: Callable[[bytes], bytes]) -> Path:
    path = sorted(Path("set").glob(pattern))[0]
    path.write_bytes(how(path.read_bytes()))
    return path


AGAIN = "delete it and start the build again"
CUT = "is cut off or of another size than was written"


@pytest.mark.parametrize(
    "pattern, how, more, said",
    [
        (
            "raw/*.tar",
            riddled,
            ["--samples-per-shard", "7"],
            "is not that of its sha256): put a copy back, or build again",
        ),
        ("raw/*.tar", cut, ["--samples-per-shard", "7"], f"{CUT} and publish, report would need it"),
        ("raw/*-*0.*[0-9a-f].parquet", cut, ["--min-image-side-px", "33"], f"{CUT} and select, publish, report would"),
        ("raw/*-*0.*[0-9a-f].parquet", emptied, ["--retry-failed"], CUT),
        ("raw/_MANIFEST.json", emptied, [], f"it lacks in): {AGAIN}"),
        ("raw/_MANIFEST.json", nameless, [], f"it lacks fingerprint): {AGAIN}"),
        ("shards/MANIFEST.json", emptied, [], f"it lacks in): {AGAIN}"),
        ("shards/MANIFEST.json", nameless, [], f"it lacks fingerprint): {AGAIN}"),
        ("plan/_MANIFEST.json", nameless, ["--retry-failed"], f"it lacks fingerprint): {AGAIN}"),
        ("run.json", emptied, [], "it lacks config): it holds the seed"),
        (
            "shards/*.tar",
            flipped,
            ["--rebuild-from", "report"],
            "its sha256): build again with --rebuild-from publish",
        ),
    ],
)
def test_what_is_damaged_and_needed_is_one_sentence_and_the_set_stays_what_it_was(
    pattern: str,
    how: Callable[[bytes], bytes],
    more: list[str],
    said: str,
    command: list[str],
    upgrade: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, path = contents("shards"), sorted(Path("set").glob(pattern))[0]
    whole = path.read_bytes()
    damage(pattern, how)
    spoilt = contents("shards")
    assert main([*command, *more]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "finished before" not in line]
    assert len(told) == 1 and told[0].startswith("error: ") and str(path) in told[0] and said in told[0]
    assert "while running" not in told[0]
    assert contents("shards") == spoilt and upgrade.Web.asked == []
    assert verify("set", "full").problems != ()
    path.write_bytes(whole)
    assert contents("shards") == before and verify("set", "full").problems == ()


@pytest.mark.parametrize("how", [cut, *(pytest.param(how, marks=pytest.mark.slow) for how in (emptied, flipped))])
@pytest.mark.parametrize(
    "pattern, more",
    [
        ("shards/00001.tar", []),
        ("shards/00000.parquet", []),
        ("shards/00002_stats.json", []),
        ("shards/sizes.json", []),
        ("select/part-*.parquet", []),
        ("plan/part-*.parquet", []),
        ("dropped/select-*.parquet", []),
        ("raw/00000-0001.json", []),
        ("candidates/part-00000.json", []),
        ("plan/merge-*.json", []),
        ("ledger.json", []),
        ("ledger/hosts.parquet", []),
        ("report/index.html", []),
        ("README.md", []),
    ],
)
def test_what_can_be_made_again_without_a_request_is_and_a_flipped_byte_is_found_and_its_mend_told(
    pattern: str, more: list[str], how: Callable[[bytes], bytes], command: list[str], upgrade: Any
) -> None:
    before = contents("")
    path = damage(pattern, how)
    problems = verify("set", "full").problems
    assert any(path.name in p or path.stem in p for p in problems)
    if how is flipped:
        line = next(p for p in problems if "its bytes are not those of the manifest's" in p or "the marker of" in p)
        if "--rebuild-from" in line:
            more = ["--rebuild-from", line.partition("--rebuild-from ")[2].split()[0].rstrip(",")]
        else:
            assert AGAIN in line
            path.unlink()
    assert main([*command, *more]) == 0
    assert verify("set", "full").problems == () and upgrade.Web.asked == []
    after = contents("")
    changed = {name for name in before if before[name] != after.get(name) and "_tmp" not in name}
    assert changed <= {"set/run.json", "set/plan/_MANIFEST.json", *(n for n in before if n.startswith("set/plan/"))}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_picture_is_the_same_sentence_from_any_number_of_workers(
    workers: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = damage("raw/*.tar", riddled)
    command[command.index("--workers") + 1] = workers
    assert main([*command, "--samples-per-shard", "7"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {path.absolute()} is damaged (the picture of ") and said.endswith(
        "everything again"
    )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "gone",
    [(), *(pytest.param(more, marks=pytest.mark.slow) for more in (("download",), ("candidates", "plan", "select")))],
    ids="-".join,
)
def test_a_manifest_that_is_gone_is_written_again_from_the_markers_alone(
    stage: str, gone: tuple[str, ...], command: list[str], upgrade: Any
) -> None:
    assert main([*command, "--retry-failed"]) == 0
    upgrade.Web.asked.clear()
    remove(*(other for other in gone if other != stage))
    path = Path("set", KINDS[stage].directory, KINDS[stage].manifest)
    before = path.read_bytes()
    path.unlink()
    assert main(command) == 0
    assert path.read_bytes() == before and upgrade.Web.asked == []
    assert verify("set", "full").problems == ()


def test_what_is_lost_of_a_stage_that_cannot_be_written_again_is_told(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set/raw/_MANIFEST.json").unlink()
    next(Path("set/raw").glob("00000-0002.*.tar")).unlink()
    for _ in range(2):
        assert main(command) == 0
        said = capsys.readouterr().err
        assert "raw/_MANIFEST.json is gone and markers (.json) of 5 of its 6 units are left, beside 17 files: " in said
        assert "without it other filters would ask the web again: put back what is gone of " in said
    assert upgrade.Web.asked == []
    remove("download")
    assert verify("set", "full").problems == ()


@pytest.mark.parametrize("stage, files", [("download", 18), ("select", 6)])
def test_files_whose_markers_are_gone_are_not_said_to_be_of_no_use(
    stage: str, files: int, command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path("set", KINDS[stage].directory)
    for path in place.glob("*.json"):
        path.unlink()
    before = contents(str(place.relative_to("set")))
    assert main(command) == 0
    said = capsys.readouterr().err
    assert (
        f"{place}/_MANIFEST.json is gone and markers (.json) of 0 of its 6 units are left, beside {files} files" in said
    )
    assert f"put back what is gone of {Path.cwd() / place}" in said and f"{place} may be deleted" not in said
    assert contents(str(place.relative_to("set"))) == before and upgrade.Web.asked == []


@pytest.mark.parametrize("how", [cut, emptied])
def test_a_damaged_plan_is_made_again_for_the_download_that_needs_it(
    how: Callable[[bytes], bytes], command: list[str], upgrade: Any
) -> None:
    upgrade.Web.broken = {3}
    before = contents("shards")
    damage("plan/part-*.parquet", how)
    assert main([*command, "--rebuild-from", "download"]) == 0
    assert contents("shards") == before and verify("set", "full").problems == ()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_part_with_no_other_size_is_named_by_who_reads_it(
    workers: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = damage("plan/part-*.parquet", lambda data: bytes(len(data)))
    command[command.index("--workers") + 1] = workers
    assert main([*command, "--rebuild-from", "download"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {path.absolute()} is damaged (") and AGAIN in said
    path.unlink()
    assert main([*command, "--rebuild-from", "download"]) == 0


@pytest.mark.slow
def test_verify_says_what_is_wrong_whatever_lies_there(command: list[str]) -> None:
    """In every file's place: a directory, nothing, other JSON, a pipe; one problem at least, and no exception."""
    assert main([*command, "--retry-failed"]) == 0
    files = [path for path in sorted(Path("set").rglob("*")) if path.is_file() and path.name not in OUTSIDE]
    for path in files:
        data = path.read_bytes()
        path.unlink()
        path.mkdir()
        assert verify("set", "full").problems, path
        path.rmdir()
        os.mkfifo(path)
        assert verify("set", "full").problems, path
        path.unlink()
        for other in (b"{}", b"[]", b"[" * 9_000) if path.suffix == ".json" else (b"", riddled(data)):
            path.write_bytes(other)
            assert verify("set", "full").problems, (path, other[:20])
        path.write_bytes(data)


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield from [at] if at else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, inner in pairs:
        yield from leaves(inner, (*at, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["run.json", "ledger.json", "raw/_MANIFEST.json", "plan/_MANIFEST.json", "shards/MANIFEST.json"]
)
def test_verify_does_not_fall_over_json_with_anything_at_any_place(name: str, command: list[str]) -> None:
    path = Path("set", name)
    data = path.read_bytes()
    others = itertools.cycle((None, [], {}, "x", -1))
    for place in leaves(json.loads(data)):
        value = inner = json.loads(data)
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = next(others)
        path.write_bytes(to_json(value))
        verify("set", "full")
    path.write_bytes(data)
    assert verify("set", "full").problems == ()


def swapped(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def swap(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return swap


def told_at(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a start that refuses, with nothing touched."""
    before = contents("")
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and said.startswith("error: ") and contents("") == before
    return said


@pytest.mark.parametrize(
    "how",
    [
        swapped(b'"seed": 7', b'"seed": 5'),
        swapped(b'"sha256"', b'"sha25&"'),
        swapped(b'"manifest_sha256"', b'"manifest_sha25&"'),
        swapped(b'"timings_s": {', b'"timings_s": {"x": "x", '),
        swapped(b'"peak_memory_mb": ', b'"peak_memory_mb": 1'),
        swapped(b'"rebuild": {', b'"rebuilt": {'),
    ],
)
def test_a_run_json_that_is_not_what_was_written_is_one_sentence(
    how: Callable[[bytes], bytes], command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    damage("run.json", how)
    said = told_at(command, capsys)
    assert "set/run.json is damaged (its bytes are not those of the digest in it)" in said and "put a copy back" in said
    assert any("run.json" in problem and "put a copy back" in problem for problem in verify("set").problems)
    assert upgrade.Web.asked == []


ODD: list[tuple[str, Any]] = [
    ("config", {}),
    ("config", {"fetch": {}, "plan": 3}),
    ("rebuild", None),
    ("rebuild", {"from": None, "pending": [3], "begun": []}),
    ("retry", {"reasons": 3}),
    ("timings_s", "x"),
    ("peak_memory_mb", "x"),
    ("stages", {"download": {"fingerprint": "x", "dropped": []}}),
    ("stages", {"plan": {"fingerprint": "x", "schema_version": "x"}}),
    ("sources", [{"path": "x", "label": "x", "size": "x"}]),
    ("at_work", 3),
]


def test_a_run_json_of_an_odd_shape_is_one_sentence(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("set/run.json")
    run = json.loads(path.read_bytes())
    for name, odd in ODD:
        path.write_bytes(sealed(run | {name: odd}))
        assert "set/run.json is damaged (" in told_at([*command, "--samples-per-shard", "5"], capsys), (name, odd)


def test_a_run_json_that_is_lost_is_written_anew_for_who_knows_the_seed(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(*PRODUCTS)
    Path("set/run.json").unlink()
    at = command.index("--seed")
    assert "set/run.json is gone" in told_at(command[:at] + command[at + 2 :], capsys)
    other = [*command[:at], "--seed", "8", *command[at + 2 :]]
    said = told_at(other, capsys)
    assert "would throw away 6 downloaded shards" in said and "Give the --seed and the settings" in said
    assert main(command) == 0
    assert contents(*PRODUCTS) == before and upgrade.Web.asked == [] and verify("set", "full").problems == ()


@pytest.mark.parametrize("stage", STAGES)
def test_a_manifest_that_run_json_does_not_know_is_one_sentence_and_its_mend_mends(
    stage: str, command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = KINDS[stage].manifest
    path = Path("set", KINDS[stage].directory, name)
    before = path.read_bytes()
    old, new = (b'"parquet"', b'"parquft"') if stage == "download" else (b'"out"', b'"ouu": 0, "out"')
    damage(str(path.relative_to("set")), swapped(old, new))
    said = told_at([*command, "--min-image-side-px", "33"], capsys)
    assert f"{path} is damaged (" in said and AGAIN in said
    assert any(AGAIN in problem for problem in verify("set").problems)
    path.unlink()
    assert main(command) == 0
    assert path.read_bytes() == before and upgrade.Web.asked == [] and verify("set", "full").problems == ()


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_later_version_wrote_is_left_to_it(
    stage: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("set", KINDS[stage].directory, KINDS[stage].manifest)
    path.write_bytes(to_json(json.loads(path.read_bytes()) | {"schema_version": 99}))
    assert f"{path} is of schema 99 and this version of wit reads up to" in told_at(command, capsys)


@pytest.mark.parametrize("name", ["ledger", "report", "dropped", "shards", "select", "raw", "_tmp"])
def test_a_file_where_a_directory_belongs_is_one_sentence(
    name: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(Path("set", name))
    Path("set", name).write_bytes(b"x")
    said = told_at([*command, "--retry-failed"], capsys)
    assert f"set/{name} stands where a directory belongs: move it away" in said
    assert verify("set").problems or name == "_tmp"


def test_where_requests_are_counted_is_made_anew_where_it_is_no_file(command: list[str], upgrade: Any) -> None:
    Path("set/_tmp/places").unlink()
    Path("set/_tmp/places/x").mkdir(parents=True)
    assert main([*command, "--retry-failed"]) == 0
    assert upgrade.Web.asked and Path("set/_tmp/places").is_file() and verify("set", "full").problems == ()


def test_rejected_pairs_that_are_gone_are_told_with_what_mends_them(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents("")
    shutil.rmtree("set/dropped")
    lost = next(name for name in before if "dropped/candidates-" in name)
    mend = "make it anew from the sources with --rebuild-from candidates --stages candidates, or delete candidates/"
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"{lost} is gone: nothing needs it now; to mend the set {mend}" in said
    assert all(mend in problem for problem in verify("set", "full").problems) and verify("set").problems
    shutil.copytree("set", "other")
    shutil.rmtree("other/candidates")
    assert verify("other", "full").problems == ()
    assert main([*command, "--rebuild-from", "candidates", "--stages", "candidates"]) == 0
    assert main(command) == 0
    assert verify("set", "full").problems == () and upgrade.Web.asked == []
    after = contents("")
    assert all(after[name] == data for name, data in before.items() if not name.endswith("run.json"))


def test_a_set_that_cannot_be_mended_keeps_its_manifest(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("set/shards/sizes.json").unlink()
    Path("set/shards/sizes.json").mkdir()
    before = contents("shards")
    assert main(command) == 3
    assert "a directory stands where a file is to be" in capsys.readouterr().err.splitlines()[-1]
    assert contents("shards") == before
    Path("set/shards/sizes.json").rmdir()
    assert main(command) == 0 and verify("set", "full").problems == () and upgrade.Web.asked == []


def test_a_directory_in_the_place_of_a_raw_tar_is_told(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = next(Path("set/raw").glob("00000-0002.*.tar"))
    tar.unlink()
    tar.mkdir()
    assert main(command) == 0
    assert f"{tar} is no file: nothing needs it now; to mend the set put a copy back, or" in capsys.readouterr().err
    said = told_at([*command, "--samples-per-shard", "5"], capsys)
    assert f"{tar} is no file and publish, report would need it" in said and upgrade.Web.asked == []


# What would be thrown away, and why.


@pytest.mark.parametrize(
    "more, said",
    [
        (["--image-size", "64"], "--image-size was 256 and is 64"),
        (["--max-per-query", "9"], "--max-per-query was 20000 and is 9"),
        (["--min-caption-words", "2"], "--min-caption-words was 1 and is 2"),
        (["--limit", "5"], "--limit was None and is 5"),
        (["--seed", "8"], "--seed is another"),
    ],
)
def test_settings_that_would_throw_downloads_away_are_named_with_what_would_be_lost(
    more: list[str], said: str, command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents("")
    assert main([*command, *more]) == 2
    told = capsys.readouterr().err
    assert said in told and "--rebuild-from download" in told
    assert "6 downloaded shards with 27 pictures" in told and "the set of 25 samples" in told
    assert contents("") == before and upgrade.Web.asked == []


def test_rounds_of_retries_are_no_shards_and_settings_that_nobody_reads_are_not_named(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--retry-failed"]) == 0  # of one picture: a raw shard, and the accounting of the round
    assert len(list(Path("set/raw").glob("retried-*.json"))) == 1
    capsys.readouterr()
    assert main([*command, "--check-pixels", "full"]) == 0  # hashes decode every picture anyway
    assert main([*command, "--check-pixels", "full", "--image-size", "64"]) == 2
    told = capsys.readouterr().err
    assert "would throw away 7 downloaded shards with 28 pictures" in told
    assert "--image-size was 256 and is 64" in told and "--check-pixels" not in told


def test_a_source_edited_in_place_with_the_same_size_is_named(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path("urls.tsv")
    os.utime(source, (1, 1))  # a touch, a copy, a checkout
    assert main(command) == 0
    source.write_text(source.read_text(encoding="utf-8").replace("dog number 4", "cat number 4"), encoding="utf-8")
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "the source urls.tsv was changed: it was sha256 " in told and "--rebuild-from" in told
    source.write_text(source.read_text(encoding="utf-8") + "http://h0.example/9.png\ta dog\n", encoding="utf-8")
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "the source urls.tsv had 1,497 bytes and has 1,527" in told and "(--append) is yet to come" in told
    Path("queries.txt").write_text("dog\n", encoding="utf-8")
    assert main(command) == 2
    assert "the query list" in capsys.readouterr().err
    assert upgrade.Web.asked == []


def test_rebuild_from_keeps_the_set_until_the_new_one_stands_and_goes_on_after_a_kill(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents("shards")
    changed = [*command, "--image-size", "16", "--rebuild-from", "download"]
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(order, "plan_shards", lambda *_, **__: 1 / 0)
        main(changed)
    assert contents("shards") == before
    asked = upgrade.pictures_asked()
    assert asked == set(range(upgrade.PICTURES))
    upgrade.Web.asked.clear()
    assert main(changed) == 0  # the same command, as after any kill: what was fetched is not thrown away again
    assert upgrade.Web.asked == [] and contents("shards") != before
    assert verify("set", "full").problems == ()
    assert json.loads(Path("set/run.json").read_bytes())["rebuild"]["pending"] == []


@pytest.mark.variants(2)
@pytest.mark.parametrize("stage", ["candidates", "plan", "select", "publish"])
def test_a_rebuild_gives_the_same_bytes(stage: str, command: list[str], upgrade: Any) -> None:
    upgrade.Web.broken = {3}
    before = contents("shards", "select", "plan", "candidates", "ledger")
    assert main([*command, "--rebuild-from", stage]) == 0
    assert contents("shards", "select", "plan", "candidates", "ledger") == before
    assert verify("set", "full").problems == ()


def test_the_seed_stands_in_run_json_alone(command: list[str]) -> None:
    """It is the secret key of all decisions: who knows it can make pages that always pass."""
    seed = "4815162342108151623"
    assert main([*command, "--seed", seed, "--output", "secret"]) == 0
    holding = [path for path in Path("secret").rglob("*") if path.is_file() and seed.encode() in path.read_bytes()]
    assert holding == [Path("secret/run.json")]
    assert all(
        "seed" not in Path("secret", name).read_text(encoding="utf-8").lower() for name in ("ledger.json", "README.md")
    )


# Every file is under a digest.


def test_verify_finds_every_file_that_is_flipped_cut_off_removed_or_added(command: list[str]) -> None:
    assert main([*command, "--retry-failed"]) == 0
    verdict = verify("set", "full")
    assert (verdict.problems, verdict.notes) == ((), ())
    missed, files = [], [path for path in sorted(Path("set").rglob("*")) if path.is_file() and path.name not in OUTSIDE]
    assert len(files) > 60
    for path in files:
        data = path.read_bytes()
        for damaged in (flipped(data), data[:-1], None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            try:
                found = verify("set", "full")
                if not found.problems and not (is_robots(path.name) and any(path.name in note for note in found.notes)):
                    missed.append((str(path), damaged and len(damaged)))
            except InputError:
                pass  # one sentence, exit code 2
        path.write_bytes(data)
    assert missed == []
    for folder in {path.parent for path in files}:
        (folder / "stranger.bin").write_bytes(b"x")
        assert any("stranger.bin" in problem for problem in verify("set").problems), folder
        (folder / "stranger.bin").unlink()
    assert verify("set", "full").problems == ()


@pytest.mark.parametrize("name", [".lock", "shards/removed.txt", "_tmp/x", "model/model.pt"])
def test_locks_tombstones_and_what_was_trained_are_outside(name: str, command: list[str]) -> None:
    Path("set", name).parent.mkdir(exist_ok=True)
    Path("set", name).write_bytes(b"")
    assert verify("set", "full").problems == ()
