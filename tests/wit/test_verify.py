import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wit.checks import Check, Seen, here
from wit.errors import InputError, Stopped
from wit.shards import iter_members
from wit.verify import verify

LEVELS = ("metadata", "sample", "full")
Build = Callable[[str], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The one build that every test copies; made by the first."""
    return {"root": str(tmp_path_factory.mktemp("verify"))}


@pytest.fixture
def out(made: dict[str, str], build: Build, tmp_path: Path) -> str:
    if "out" not in made:
        made["out"] = build(f"{made['root']}/out")
    return str(shutil.copytree(made["out"], tmp_path / "out"))


def edit(path: str, change: Callable[[Any], None]) -> None:
    value = json.loads(Path(path).read_bytes())
    change(value)
    Path(path).write_text(json.dumps(value), encoding="utf-8")


def flip(path: str, at: int) -> None:
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 0x10
    Path(path).write_bytes(data)


@pytest.mark.parametrize("level, read", [("metadata", 0), ("sample", None), ("full", 22)])
def test_a_build_is_sound(out: str, level: Any, read: int | None) -> None:
    verdict = verify(out, level)
    assert verdict.problems == ()
    assert (verdict.samples, verdict.shards) == (22, 4)
    assert verdict.samples_read == read if read is not None else verdict.samples_read >= 4
    assert verdict.stages == ("candidates", "plan", "download", "select", "publish")


def sampled(out: str) -> tuple[str, dict[str, Any]]:
    """A tar and the row of the picture that level "sample" reads of it."""
    from wit.hashing import keyed_hashes

    rows = pq.read_table(f"{out}/shards/00001.parquet").to_pylist()
    hashes = keyed_hashes(0, "verify", [row["key"] for row in rows]).tolist()
    return f"{out}/shards/00001.tar", rows[hashes.index(min(hashes))]


@pytest.mark.parametrize("level, found", [("metadata", False), ("sample", True), ("full", True)])
def test_a_flipped_byte_of_a_picture_that_is_read_is_found(out: str, level: Any, found: bool) -> None:
    tar, row = sampled(out)
    flip(tar, row["image_offset"] + row["image_size"] // 2)
    problems = verify(out, level).problems
    assert bool(problems) == found
    assert all(row["key"] in p or "00001.tar: its bytes" in p for p in problems)


@pytest.mark.parametrize("level", LEVELS)
def test_a_removed_sample_is_found(out: str, level: Any) -> None:
    """Tar, parquet, stats, sizes and manifest all rewritten without it: the keep list still has it."""
    path = f"{out}/shards/00000"
    table = pq.read_table(path + ".parquet")
    members = list(iter_members(path + ".tar"))[:-3]
    tar = Path(path + ".tar").read_bytes()[: members[-1].offset + -(-len(members[-1].data) // 512) * 512] + bytes(1024)
    Path(path + ".tar").write_bytes(tar)
    pq.write_table(table.slice(0, len(table) - 1), path + ".parquet")
    edit(path + "_stats.json", lambda s: s.update(count=6, successes=6))
    edit(f"{out}/shards/sizes.json", lambda s: s.update({"00000.tar": 6}))

    def manifest(m: dict[str, Any]) -> None:
        m.update(samples=21, out=21)
        m.update({"in": 21})
        for entry in m["files"]:
            entry["bytes"] = Path(f"{out}/shards/{entry['name']}").stat().st_size
            if entry["name"] in ("00000.tar", "00000.parquet"):
                entry["samples"] = 6

    edit(f"{out}/shards/MANIFEST.json", manifest)
    edit(f"{out}/ledger.json", lambda v: v.update(samples=21))
    assert any("1 selected samples are missing" in p for p in verify(out, level).problems)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(samples=25),
        lambda v: v["stages"]["download"].update(out=33),
        lambda v: v["stages"]["download"]["dropped"].update(timeout=1),
        lambda v: v["stages"].pop("select"),
        lambda v: v["stages"].update(score={"in": 1, "out": 1, "dropped": {}}),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
def test_an_edited_ledger_is_found(out: str, change: Callable[[Any], None], level: Any) -> None:
    edit(f"{out}/ledger.json", change)
    assert any("ledger.json" in p for p in verify(out, level).problems)


def part_of(out: str, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{out}/{stage}/_MANIFEST.json").read_bytes())["parts"][0]
    return found


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda out: Path(f"{out}/ledger.json").unlink(), "ledger.json: missing"),
        (lambda out: Path(f"{out}/shards/00002.tar").unlink(), "shards/00002.tar: missing"),
        (lambda out: Path(f"{out}/shards/00002.tar").write_bytes(b""), "00002.tar: 0 bytes, the manifest says"),
        (
            lambda out: shutil.copy(f"{out}/shards/00002.tar", f"{out}/shards/00009.tar"),
            "00009.tar: not of this set",
        ),
        (lambda out: edit(f"{out}/shards/sizes.json", lambda s: s.update({"00000.tar": 8})), "sizes.json: not what"),
        (lambda out: edit(f"{out}/shards/00001_stats.json", lambda s: s.update(count=8)), "00001_stats.json"),
        (lambda out: Path(f"{out}/raw/00000-0000.json").unlink(), "the marker of 00000-0000 is missing"),
        (lambda out: Path(f"{out}/{part_of(out, 'plan')['files']['rows']['name']}").unlink(), "missing"),
        (
            lambda out: edit(f"{out}/select/_MANIFEST.json", lambda m: m["dropped"].update(low_score=1)),
            "losses are not the sum of its parts'",
        ),
        (
            lambda out: edit(
                f"{out}/download/../raw/_MANIFEST.json".replace("download/../", ""), lambda m: m.update(out=1)
            ),
            "raw/_MANIFEST.json: says 1 out",
        ),
        (
            lambda out: edit(
                f"{out}/run.json",
                lambda r: [r["fingerprints"].update(plan="?"), r["stages"].pop("plan")],
            ),
            "plan/_MANIFEST.json: of other settings",
        ),
    ],
)
def test_what_else_can_be_off_is_named(out: str, damage: Callable[[str], None], says: str) -> None:
    damage(out)
    problems = verify(out).problems
    assert any(says in p for p in problems), problems


def test_a_key_that_is_not_of_its_pair_and_one_that_is_there_twice_are_named(out: str) -> None:
    path = f"{out}/shards/00000.parquet"
    table = pq.read_table(path)
    keys = table["key"].to_pylist()
    pq.write_table(table.set_column(2, "key", [[keys[1], *keys[1:]]]), path)
    problems = verify(out).problems
    assert any(f"{keys[1]} is not the key of its URL and caption" in p for p in problems)
    assert any(f"shards: key {keys[1]} is there more than once; " in p for p in problems)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_any_file_that_a_manifest_names_is_found(out: str, data: st.DataObject) -> None:
    """At level full; in a manifest itself it is found or, where no digest covers it, changes nothing that is checked."""
    paths = sorted(p for p in Path(out).rglob("*") if p.is_file() and p.name != "run.json" and "MANIFEST" not in p.name)
    path = data.draw(st.sampled_from(paths))
    before = path.read_bytes()
    try:
        flip(str(path), data.draw(st.integers(0, len(before) - 1)))
        assert verify(out, "full").problems
    finally:
        path.write_bytes(before)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_manifest_is_a_problem_or_an_error_never_a_crash(out: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(Path(out).rglob("*MANIFEST.json"))))
    before = path.read_bytes()
    try:
        flip(str(path), data.draw(st.integers(0, len(before) - 1)))
        try:
            assert verify(out, "full").problems
        except InputError as error:
            assert "run the build again" in str(error)
    finally:
        path.write_bytes(before)


def test_where_there_is_no_build_the_error_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--output directory"):
        verify(str(tmp_path / "nothing"))


@pytest.mark.parametrize("kind", ["parts", "shards", "keep", "keys"])
def test_a_check_that_an_engine_loses_is_not_taken_for_made(out: str, kind: str) -> None:
    def loses(checks: Sequence[Check]) -> list[Seen]:
        return [seen for seen in here(checks) if seen.kind != kind]

    with pytest.raises(Stopped, match="did not come back from the engine: start verify again"):
        verify(out, look=loses)
