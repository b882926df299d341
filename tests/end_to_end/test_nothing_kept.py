"""A build that finished and kept nothing says why, and ends with exit code 4; what a changed setting refused is fetched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from wit.verify import verify


@pytest.fixture
def command(upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        yield upgrade.inputs(tmp_path, port)


@pytest.mark.variants(2)
@pytest.mark.parametrize(
    "more, said",
    [
        (
            ["--allow-addresses", "10.0.0.0/8"],
            "31 of 31 pairs left download as address_refused, on which --allow-addresses",
        ),
        (["--queries", "none.txt"], "pairs left candidates as no_query, on which --queries"),
        (["--min-caption-chars", "90"], "pairs left candidates as caption_too_short, on which --min-caption-chars"),
        (["--languages", "de"], "pairs left candidates as language, on which --languages"),
        (["--min-image-side-px", "99"], "pairs left select as image_too_small, on which --min-image-side-px"),
    ],
)
def test_an_empty_set_is_exit_code_4_and_one_sentence(
    more: list[str], said: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("none.txt").write_text("zebra\n", encoding="utf-8")
    assert main([*command, *more]) == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("nothing was kept: ") and said in last
    assert main([*command, *more]) == 4  # and as long as it is so
    assert verify("set", "full").problems == ()


@pytest.mark.variants(1)
@pytest.mark.parametrize("more", [["--queries", "none.txt"], ["--allow-addresses", "10.0.0.0/8", "--image-size", "64"]])
def test_where_nothing_was_fetched_nothing_can_be_lost_and_nobody_is_asked(
    more: list[str], command: list[str], upgrade: Any
) -> None:
    Path("none.txt").write_text("zebra\n", encoding="utf-8")
    assert main([*command, *more]) == 4
    assert main(command) == 0
    assert upgrade.pictures_asked() == set(range(upgrade.PICTURES))
    assert verify("set", "full").problems == ()


def test_what_another_setting_refused_is_named_and_fetched_when_asked_for(
    command: list[str], upgrade: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--allow-addresses", "10.0.0.0/8"]) == 4
    for _ in range(2):
        capsys.readouterr()
        assert main(command) == 4
        assert (
            "--allow-addresses was 10.0.0.0/8 and is 127.0.0.1/32, 31 rows were refused for it: --retry-reason "
            "address_refused fetches those" in capsys.readouterr().err
        )
    assert upgrade.Web.asked == []
    capsys.readouterr()
    assert main([*command, "--retry-reason", "address_refused"]) == 0
    assert "were refused" not in capsys.readouterr().err  # nothing to advise: it is being done
    assert upgrade.pictures_asked() == set(range(upgrade.PICTURES))
    assert verify("set", "full").problems == ()
    capsys.readouterr()
    assert main(command) == 0
    assert "were refused" not in capsys.readouterr().err


def test_a_round_for_one_reason_that_was_killed_does_not_count_for_another(
    command: list[str], upgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines import download

    upgrade.Web.broken = {1, 2, 3}
    assert main(command) == 0
    upgrade.Web.broken = set()
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(download, "download_parts", lambda *_: 1 / 0)
        main([*command, "--retry-failed"])
    assert main([*command, "--retry-reason", "http_not_found"]) == 0
    assert verify("set", "full").problems == ()
    assert main([*command, "--retry-failed"]) == 0
    assert verify("set", "full").problems == ()
    assert verify("set").samples == 26


def test_an_unknown_reason_is_bad_input(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--retry-reason", "no_query"]) == 2
    assert "no such reason of a failed download; have address_refused" in capsys.readouterr().err
