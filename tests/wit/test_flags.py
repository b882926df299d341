"""A name that does not exist is answered with the one that was meant."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wit import flags
from wit.config import BuildConfig
from wit.errors import InputError


@dataclass
class Section:
    resize_mode: Literal["no", "keep_ratio", "center_crop"] = "no"


@dataclass
class Config:
    kind: ClassVar[str] = "x"
    output: str = ""
    resume: bool = False
    start: Literal["plan", "select"] | None = None
    section: Section = field(default_factory=Section)


KNOBS = flags.knobs_of(Config)


def test_flags_are_the_fields_of_all_sections() -> None:
    assert list(KNOBS) == ["output", "resume", "start", "resize-mode"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--output", "x", "--no-resume", "--resize_mode=no", "--help", "a", "-h"], None),
        (
            ["--outptu", "x"],
            "unknown option --outptu; have --output, --resume, --start, --resize-mode; did you mean --output?",
        ),
        (["--resize-mood=no"], "unknown option --resize-mood; .* did you mean --resize-mode?"),
        (["--no-resum"], "unknown option --no-resum; have --no-resume; did you mean --no-resume\\?$"),
        (["--noresume"], "did you mean --no-resume"),
        (["--no-output"], "unknown option --no-output; have --no-resume"),
        (["--zzz"], "unknown option --zzz; have --output, --resume, --start, --resize-mode$"),
    ],
)
def test_flags_that_do_not_exist_are_refused(arguments: list[str], said: str | None) -> None:
    if said is None:
        flags.check_names(arguments, KNOBS)
        return
    with pytest.raises(InputError, match=said):
        flags.check_names(arguments, KNOBS)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--resize-mode", "keep_ratio", "--start=plan", "--output", "keepratio", "--start", "--resume"], None),
        (["--resize-mode", "keepratio"], "--resize-mode keepratio: no such value; have .*; did you mean keep_ratio?"),
        (["--resize_mode=KEEP-RATIO"], "did you mean keep_ratio?"),
        (["--start", "selekt"], "--start selekt: no such value; have plan, select; did you mean select?"),
    ],
)
def test_values_that_do_not_exist_are_refused(arguments: list[str], said: str | None) -> None:
    if said is None:
        flags.check_values(arguments, KNOBS)
        return
    with pytest.raises(InputError, match=said):
        flags.check_values(arguments, KNOBS)


@given(st.sampled_from(sorted(flags.knobs_of(BuildConfig))), st.data())
def test_one_slip_is_understood_in_every_flag_of_a_build(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    slip = name[:at] + data.draw(st.sampled_from("xq")) + name[at + 1 :]
    assert "did you mean" in flags.instead(slip, flags.knobs_of(BuildConfig))


def test_the_names_are_listed_where_they_are_few_or_none_is_near() -> None:
    many = [f"name-{letter * 3}" for letter in "abcdefghijklmnopqrst"]
    assert flags.instead("name-aab", many) == "did you mean name-aaa?"
    assert flags.instead("zzzz", many) == f"have {', '.join(many)}"


@pytest.mark.parametrize(
    "argument, said",
    [
        ("--no-perceptual-hashs", "did you mean --no-perceptual-hashes?"),
        ("--perceptual-hashs", "did you mean --perceptual-hashes?"),
        ("--max_num_wokers", "did you mean --max_num_workers?"),
        ("--zzzz", "see --help"),
    ],
)
def test_where_beam_takes_the_rest_its_flags_are_guessed_too(argument: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        flags.check_names([argument], flags.knobs_of(BuildConfig), ["max_num_workers", "no_use_public_ips"])
    what = "no option of wit or Beam:" if said == "see --help" else "unknown option"
    assert str(refused.value) == f"{what} {argument.replace('_', '-')}; {said}"


def test_without_any_flag_nothing_is_listed() -> None:
    with pytest.raises(InputError, match="^unknown option --x$"):
        flags.check_names(["--x"], {})


@pytest.mark.parametrize(
    "argument, said",
    [
        ("--resume=True", '--resume takes no value: leave out "=True"'),
        ("--resume=false", '--resume takes no value: leave out "=false", or write --no-resume'),
        ("--no-resume=true", '--no-resume takes no value: leave out "=true"'),
    ],
)
def test_what_is_on_or_off_takes_no_value(argument: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        flags.check_values([argument], KNOBS)
    assert str(refused.value) == said
