"""The checks of `pipelines.verify` on an engine: for sets that one machine would read for days."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import apache_beam as beam

from pipelines.commandline import refuse_unknown
from pipelines.engine import Engine, quiet_beam
from pipelines.gather import gather, scratch_folder
from wit.checks import Check, Look, Seen, look
from wit.errors import InputError
from wit.shardcheck import Level
from wit.verify import Verdict, verify


def verify_on_engine(out: str, level: Level, flags: Sequence[str]) -> Verdict:
    """`verify` by the workers of the engine that Beam's flags name. Hashes of keys and results go to --temp_location, which all
    of them reach. Raises InputError where it is not given, or a flag is unknown."""
    refuse_unknown(list(flags))
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--temp_location")
    place = parser.parse_known_args(flags)[0].temp_location
    if place is None:
        raise InputError("on an engine verify needs --temp_location, a directory that all workers reach: give one")
    quiet_beam()
    engine = Engine(tuple(flags), threads=1)
    engine.check()
    with scratch_folder(place) as folder:
        return verify(out, level, on(engine, place), folder=folder)


def on(engine: Engine, place: str) -> Look:
    """Looks at all checks as one job of the engine."""

    def job(checks: Sequence[Check]) -> Sequence[Seen]:
        return gather(engine, checks, Check, lambda every: every | "Look" >> beam.Map(look), Seen, out=place)

    return job
