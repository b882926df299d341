"""The command line of a build: any field of BuildConfig as a flag, TOML with --config, everything else is Beam's."""

from __future__ import annotations

import argparse
from typing import Annotated

import tyro
from apache_beam.options.pipeline_options import PipelineOptions

from wit import flags
from wit.config import BuildConfig
from wit.configfile import counted, from_toml
from wit.errors import InputError
from wit.fingerprints import check_gone
from wit.store.fs import check_text

EXIT_CODES = (
    "Exit codes: 0 a set with samples; 1 a bug; 2 bad input, nothing touched; 3 stopped, start it again to go on; "
    "4 finished, and nothing was kept.\n\n"
)
EPILOG = (
    EXIT_CODES + "Options not listed here go to Apache Beam: --runner, --parallelism, --project, --temp_location ..."
)
KNOBS = flags.knobs_of(BuildConfig)


def parse(arguments: list[str]) -> tuple[BuildConfig, tuple[str, ...]]:
    """(configuration, Beam's flags). Raises InputError for a flag unknown to wit and to Beam; exits with 2 on a malformed one."""
    for argument in arguments:
        check_text(argument)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    known, rest = first.parse_known_args(_counts_written_out(arguments))
    flags.check_values(rest, KNOBS)
    default = from_toml(known.config, BuildConfig()) if known.config else BuildConfig()
    config, unknown = tyro.cli(
        Annotated[BuildConfig, tyro.conf.arg(name="")],
        prog="python -m pipelines.build",
        description="Build a CLIP training set from a query list. --config FILE.toml sets any field; flags win over it.\n\n"
        + EPILOG,
        args=rest,
        default=default,
        return_unknown_args=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands),
    )
    refuse_unknown(unknown)
    return config, tuple(unknown)


def _counts_written_out(arguments: list[str]) -> list[str]:
    """`--target 400M` means 400000000, for the flags that count pairs."""
    written = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        flag, equals, value = argument.partition("=") if argument.startswith("--") else (before, "", argument)
        count = counted(flag.removeprefix("--"), value)
        written.append(argument if count is None else f"{flag}={count}" if equals else str(count))
    return written


def refuse_unknown(given: list[str]) -> None:
    """A misspelt flag of ours must not vanish among Beam's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in _all_subclasses(PipelineOptions):
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(_Tolerant(parser))
    _, unknown = parser.parse_known_args(given)
    if unknown:
        check_gone(unknown[0])
        beams = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
        flags.check_names(unknown, KNOBS, beams)
        raise InputError(f"unknown argument {unknown[0]}: see python -m pipelines.build --help")


def _all_subclasses(cls: type) -> list[type]:
    direct = cls.__subclasses__()
    return direct + [below for one in direct for below in _all_subclasses(one)]


class _Tolerant:
    """Beam's option classes declare a few flags twice, and required ones; here only their names matter."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def add_argument(self, *names: str, **knobs: object) -> None:
        knobs["required"] = False
        knobs.pop("default", None)
        self._parser.add_argument(*names, **knobs)  # type: ignore[arg-type]

    add_value_provider_argument = add_argument

    def add_argument_group(self, *_: object, **__: object) -> _Tolerant:
        return self

    add_mutually_exclusive_group = add_argument_group
