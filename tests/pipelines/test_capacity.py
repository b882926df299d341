import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.capacity import figure, main, samples_of
from wit.errors import InputError
from wit.runfile import sealed


@pytest.fixture
def out(earlier: Callable[..., Path]) -> Path:
    """A finished set of 26 samples."""
    return earlier()


def test_one_screen_says_what_a_target_takes_and_where_each_figure_comes_from(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(out), "--target", "400M", "--workers", "500", "--max-per-query=0"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].startswith("400,000,000 samples, from a pilot of 26") and "19.6%" in lines[0]
    assert len(lines) <= 40 and all(len(line) <= 140 for line in lines[1:])
    assert all(f" {basis} " in told.out for basis in ("measured", "computed"))
    for what in ("rows of the tables", "candidates", "requests to sites", "robots.txt", "requests to the store", "DNS"):
        assert what in told.out
    for what in ("NAT ports", "ingress", "core-hours", "driver", "at rest", "moved", "500 workers", "slowest domain"):
        assert what in told.out
    assert "8.411 V100-years" in told.out and "29.17 V100-years" in told.out
    assert "507,700,000 rows" in told.out  # 33 rows for 26 samples
    assert "cost" not in told.out and "kept 26 samples" in told.err


def test_scripts_get_the_same_as_json(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(out), "--target=2600", "--max-per-query=0", "--price-core-hour=0.05", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    by_name = {line["name"]: line for line in found["lines"]}
    assert found["target"] == 2_600 and found["samples"] == 26 and told.err == "" and found["notes"]
    assert by_name["source_rows"]["value"] == pytest.approx(3_300) and by_name["source_rows"]["unit"] == "rows"
    assert by_name["cost_core_hours"]["value"] == pytest.approx(by_name["core_hours"]["value"] * 0.05)
    assert {line["basis"] for line in found["lines"]} == {"measured", "computed", "assumed"}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--target", "many"], "--target is 'many': give a number of samples, for instance 400M"),
        (["--target", "0"], "--target is 0: give a number from 1"),
        (["--target=400M", "--wokers=4"], "unknown option --wokers"),
        (["--target=400M", "--json=yes"], "--json takes no value"),
        (["--target=400M", "--price-core-hour=-1"], "--price-core-hour is -1"),
        (["--target=400M", "--price-gb-month=nan"], "--price-gb-month is nan"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_exit_code_2(
    arguments: list[str], said: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(out), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and said in told.err


@pytest.mark.parametrize("arguments", [[], ["--target"], ["--target=400M", "--workers=some"]])
def test_an_incomplete_command_line_ends_with_2(arguments: list[str], out: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(out), *arguments])
    assert ended.value.code == 2


def test_what_is_no_pilot_is_one_sentence_and_exit_code_2(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(place: Path) -> str:
        assert main([str(place), "--target", "400M"]) == 2
        found = capsys.readouterr()
        assert found.out == "" and found.err.count("\n") == 1
        return found.err

    assert "no build in" in told(out.parent)
    assert "no build in" in told(out.parent / "nowhere")
    run = (out / "run.json").read_bytes()
    (out / "run.json").write_bytes(run.replace(b'"seed": 7', b'"seed": 8'))
    assert "run.json is damaged (its bytes are not those of the digest in it)" in told(out)
    for junk in (b"", b"[1]", b"{", b"\xff\xfe", b"{}" * 10_000, b"[" * 100_000):
        (out / "run.json").write_bytes(junk)
        assert "run.json is damaged" in told(out)
    (out / "run.json").write_bytes(run)
    shutil.rmtree(out / "raw")
    assert "has no raw/_MANIFEST.json" in told(out)


def test_a_pilot_of_a_handful_is_refused(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("wit.capacity.FEWEST", 27)
    assert main([str(out), "--target", "400M"]) == 2
    assert "the pilot kept 26 samples, too few to tell anything" in capsys.readouterr().err


def test_a_set_in_a_store_tells_the_same(out: Path, other_store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(out, other_store.folder / "set")
    told = []
    for place in (str(out), other_store.at("set")):
        assert main([place, "--target", "1M", "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]


def test_host_limits_that_are_gone_are_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = json.loads((out / "run.json").read_bytes())
    run["config"]["fetch"]["host_limits"] = "/nowhere/limits.toml"
    (out / "run.json").write_bytes(sealed(run))
    assert main([str(out), "--target", "1M"]) == 2
    assert "/nowhere/limits.toml" in capsys.readouterr().err


@pytest.mark.parametrize("text, count", [("400M", 400_000_000), ("1.5B", 1_500_000_000), ("20k", 20_000), ("7", 7)])
def test_a_target_is_written_as_for_a_build(text: str, count: int) -> None:
    assert samples_of(text) == count


def test_a_target_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError):
        samples_of("4e8")


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.12345, "0.1235"),
        (999.96, "1000"),
        (1_234, "1,234"),
        (12_345, "12,340"),
        (123_456_789, "123,500,000"),
    ],
)
def test_four_digits_are_shown(value: float, text: str) -> None:
    assert figure(value) == text
