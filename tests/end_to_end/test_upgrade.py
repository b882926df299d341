"""What was fetched outlives our versions: OUTs that earlier versions left go on, verify and publish without a request."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from wit import fingerprints
from wit.runfile import sealed
from wit.stages import SCHEMAS
from wit.verify import verify

FIXTURES = Path(__file__).parents[1] / "fixtures/upgrade"
VERSIONS = sorted(path.name.removesuffix(".tar.xz") for path in FIXTURES.glob("*.tar.xz"))


@pytest.fixture
def left(
    request: pytest.FixtureRequest, tmp_path: Path, upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The arguments that go on with the OUT `set` in the working directory, as (version, state) left it."""
    version, state = request.param
    with tarfile.open(FIXTURES / f"{version}.tar.xz") as archive:
        members = [member for member in archive.getmembers() if member.name.split("/")[0] == state]
        archive.extractall(tmp_path, members, filter="data")
    (tmp_path / state).rename(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        yield upgrade.inputs(tmp_path, port)


def of(*states: str, often: tuple[str, ...] = (VERSIONS[0], VERSIONS[-1])) -> pytest.MarkDecorator:
    """Each version, each state; versions that are not in `often` are seldom tried."""
    cases = [
        pytest.param((v, s), id=f"{v}-{s}", marks=() if v in often else pytest.mark.slow)
        for v in VERSIONS
        for s in states
    ]
    return pytest.mark.parametrize("left", cases, indirect=True)


@of("finished", "retried", often=tuple(VERSIONS))
def test_a_finished_set_of_an_earlier_version_goes_on_and_is_cut_anew_without_a_request(
    left: list[str], upgrade: Any
) -> None:
    verdict = verify("set", "full")
    assert verdict.problems == () and len(verdict.notes) <= 1  # what version 0.1.0 left without a digest
    raw = {path: path.stat().st_mtime_ns for path in Path("set/raw").iterdir()}
    shards = {path.name: path.read_bytes() for path in Path("set/shards").iterdir()}
    assert main(left) == 0
    assert {path.name: path.read_bytes() for path in Path("set/shards").iterdir()} == shards
    assert verify("set", "full").problems == ()
    assert main([*left, "--samples-per-shard", "5"]) == 0
    assert verify("set", "full").problems == ()
    assert main([*left, "--min-image-side-px", "39"]) == 0
    assert verify("set", "full").problems == ()
    assert upgrade.Web.asked == []
    assert {path: path.stat().st_mtime_ns for path in Path("set/raw").iterdir()} == raw


@of("interrupted", often=tuple(VERSIONS))
def test_a_download_that_an_earlier_version_was_stopped_in_goes_on_with_what_is_missing(
    left: list[str], upgrade: Any
) -> None:
    published = upgrade.published(Path("set"))
    assert 0 < len(published) < 5
    assert main(left) == 0
    assert upgrade.pictures_asked() == set(range(upgrade.PICTURES)) - set().union(*published.values())
    assert verify("set", "full").problems == ()


def test_a_set_keeps_the_rules_it_was_made_by(tmp_path: Path, upgrade: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to schema 2 of candidates a caption that ends in a file's name was dropped as one."""
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        command = upgrade.inputs(tmp_path, port)
        with Path("urls.tsv").open("a", encoding="utf-8") as table:
            table.write("http://h0.example/90.png\ta small cat that is called cat.jpg\n")
        with monkeypatch.context() as earlier:
            earlier.setitem(SCHEMAS, "candidates", 2)
            assert main(command) == 0
        asked, ledger = len(upgrade.Web.asked), Path("set/ledger.json").read_bytes()
        candidates = {path.name: path.read_bytes() for path in Path("set/candidates").glob("*.parquet")}
        assert main([*command, "--rebuild-from", "candidates", "--stages", "candidates"]) == 0
        assert {path.name: path.read_bytes() for path in Path("set/candidates").glob("*.parquet")} == candidates
        assert main(command) == 0
        assert (len(upgrade.Web.asked), Path("set/ledger.json").read_bytes()) == (asked, ledger)
        assert b"caption_is_file_name" in ledger and verify("set", "full").problems == ()
        assert main([part if part != "set" else "new" for part in command]) == 0
        assert b"caption_is_file_name" not in Path("new/ledger.json").read_bytes()


@pytest.mark.variants(1)
@pytest.mark.parametrize("asked, kept", [(["--target", "12"], 12), (["--cap", "hard", "--max-per-query", "6"], 16)])
def test_a_set_that_was_cut_at_the_cap_of_its_plan_stays_so_until_select_is_made_anew(
    asked: list[str], kept: int, tmp_path: Path, upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to schema 2 select took plan's cap for --target and --cap hard too. No picture is fetched again for the new rule."""
    monkeypatch.chdir(tmp_path)

    def shards() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path("set/shards").glob("*.tar")}

    with upgrade.web() as port:
        command = [*upgrade.inputs(tmp_path, port), *asked]
        with monkeypatch.context() as earlier:
            earlier.setitem(SCHEMAS, "select", 2)
            assert main(command) == 0
        asked_for, before = len(upgrade.Web.asked), shards()
        assert main(command) == 0 and shards() == before
        for _ in range(2):
            assert main([*command, "--rebuild-from", "select"]) == 0
            assert main(command) == 0
            assert json.loads(Path("set/shards/MANIFEST.json").read_bytes())["samples"] == kept
            assert verify("set", "full").problems == ()
        assert len(upgrade.Web.asked) == asked_for


def test_a_set_that_was_built_with_a_knob_that_is_gone_goes_on(
    tmp_path: Path, upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--min-side-px 64, that nobody read, up to schema 2 of the download."""
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        command = upgrade.inputs(tmp_path, port)
        with monkeypatch.context() as earlier:
            earlier.setitem(SCHEMAS, "download", 2)
            earlier.setitem(fingerprints.REMOVED, "image.min_side_px", fingerprints.Removed(until=2, was=64))
            assert main(command) == 0
        run = json.loads(Path("set/run.json").read_bytes())
        run["config"]["image"]["min_side_px"] = 64
        Path("set/run.json").write_bytes(sealed(run))
        asked = len(upgrade.Web.asked)
        shards = {path.name: path.read_bytes() for path in Path("set/shards").iterdir()}
        for _ in range(2):  # the first start writes a run.json whose configuration is without it
            assert main(command) == 0
            assert {path.name: path.read_bytes() for path in Path("set/shards").iterdir()} == shards
        assert main([*command, "--samples-per-shard", "5"]) == 0
        assert len(upgrade.Web.asked) == asked and verify("set", "full").problems == ()


@of("retried")
def test_a_further_round_of_retries_asks_for_what_failed_then(left: list[str], upgrade: Any) -> None:
    assert main([*left, "--retry-failed"]) == 0
    assert upgrade.pictures_asked() == {max(upgrade.BROKEN)}
    assert verify("set", "full").problems == ()


# Version 0.1.0 kept no records of what it finished.

FIRST = min(VERSIONS)


def first(*states: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("left", [(FIRST, s) for s in states], indirect=True, ids="-".join)


@first("finished")
@pytest.mark.parametrize("partial", [["--dry-run"], ["--stages", "candidates"]], ids=" ".join)
def test_nothing_of_a_set_is_a_stranger_once_a_later_version_was_at_it(left: list[str], partial: list[str]) -> None:
    assert main([*left, *partial]) == 0
    verdict = verify("set", "full")
    assert verdict.problems == ()
    assert verdict.notes[0].startswith(
        "no digest covers README.md, croissant.json, ledger.json, ledger/hosts.parquet, "
    )
    assert main(left) == 0
    assert (verify("set", "full").problems, verify("set", "full").notes) == ((), ())


@pytest.mark.variants(4)
@first("finished", "retried")
@pytest.mark.parametrize(
    "gone", [["candidates"], ["plan"], ["raw"], ["select"], ["candidates", "plan", "raw", "select"]], ids="+".join
)
def test_what_a_finished_set_does_not_need_may_be_deleted_of_one_without_records(
    left: list[str], gone: list[str], upgrade: Any
) -> None:
    ledger = json.loads(Path("set/ledger.json").read_bytes())
    for name in gone:
        shutil.rmtree(Path("set", name))
    for arguments in ([], ["--stages", "candidates"], [], None):
        verdict = verify("set", "full")
        assert (verdict.problems, verdict.to_come) == ((), ())
        assert arguments is None or main([*left, *arguments]) == 0
    assert upgrade.Web.asked == []
    found = json.loads(Path("set/ledger.json").read_bytes())
    assert (found["stages"], found["samples"]) == (ledger["stages"], ledger["samples"])


@first("finished")
def test_numbers_that_nobody_knows_any_more_are_not_called_wrong(left: list[str]) -> None:
    shutil.rmtree("set/select")
    Path("set/ledger.json").write_bytes(b"{}")
    (problem,) = verify("set").problems
    assert problem.endswith("; put a copy back: it alone has the numbers of select/, which was deleted")


@first("finished")
@pytest.mark.parametrize("name", ["ledger/hosts.parquet", "report/index.html", "README.md", "ledger.json"])
def test_a_directory_in_the_place_of_a_file_without_a_digest_is_seen(left: list[str], name: str) -> None:
    Path("set", name).unlink()
    Path("set", name).mkdir()
    assert any(line.startswith(f"{name}: no file: move away what stands there; ") for line in verify("set").problems)
    Path("set", name).rmdir()
    assert name == "report/index.html" or verify("set").problems[0].startswith(f"{name}: missing")
