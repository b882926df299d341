"""Is a build what its manifests say? `python -m pipelines.verify OUT [--level metadata|sample|full]`."""

from __future__ import annotations

if __name__ == "__main__":
    from wit import early

    early.listen()

import argparse
import sys
from collections.abc import Sequence

from pipelines import ending
from wit import flags
from wit.shardcheck import Level
from wit.verify import Verdict, verify

KNOBS = {"level": Level}
EPILOG = (
    "With --runner and Beam's other options (--temp_location is needed) the files are read by the workers of an engine."
)
LEVELS = flags.choices_of(Level)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if all is right, 1 with a list of what is off, 2 where there is nothing to verify."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.verify", description=__doc__, epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("out", metavar="OUT", help="the --output directory of a build")
    parser.add_argument(
        "--level",
        choices=LEVELS,
        default="metadata",
        help="metadata: files, sizes, sums, ledger, keys. sample: besides, 1%% of the samples are read and decoded. "
        "full: besides, the digest of every file and every sample. (default: metadata)",
    )
    argv = sys.argv[1:] if arguments is None else list(arguments)

    def work() -> int:
        flags.check_values(argv, KNOBS)
        given, beams = parser.parse_known_args(argv)
        if any(flag.startswith("--runner") for flag in beams):
            from pipelines.checks import verify_on_engine  # not above: importing Beam takes seconds

            verdict = verify_on_engine(given.out, given.level, beams)
        else:
            flags.check_names(argv, KNOBS)
            given = parser.parse_args(argv)  # complains of what is left over
            verdict = verify(given.out, given.level)
        print("\n".join(lines(verdict, given.out, given.level)))
        return 1 if verdict.problems else 0

    return ending.code_of(work)


def lines(verdict: Verdict, out: str, level: str) -> list[str]:
    """The problems, one a line, and a last line that sums up."""
    notes = [f"note: {note}" for note in verdict.notes]
    size = f"{verdict.samples:,} samples in {verdict.shards:,} shards, {verdict.samples_read:,} of them read"
    done, to_come = ", ".join(verdict.stages), ", ".join(verdict.to_come)
    state = f"not finished, still to come: {to_come}; " if to_come else ""
    if verdict.problems:
        return [
            *verdict.problems,
            *notes,
            f"{out}: {len(verdict.problems):,} problems at level {level} ({state}{size})",
        ]
    if not to_come:
        return [*notes, f"{out}: sound at level {level}: stages {done}; {size}"]
    there = f"sound at level {level}: {done}" if done else "no stage is finished"
    return [*notes, f"{out}: not finished: {there}; still to come: {to_come}. {GO_ON} ({size})"]


GO_ON = (
    "To go on start python -m pipelines.build with the same arguments; if --stages is one of them it must name these"
)


if __name__ == "__main__":
    early.leave(main())
