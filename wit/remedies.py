"""What is wrong with a set, file by file, and what mends it. All problems are collected first: whether a file can be made anew
depends on what else is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from wit.damage import AGAIN, ANEW, BY_PLACE, COPY_OR_WEB, OTHER, RUN, is_marker, is_robots, mend, missed
from wit.layout import REPORT_FILES, RUN_FILE, directory_of, is_apart, manifest_of
from wit.stages import KINDS, STAGES


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file, or with a stage's whole directory, by its name relative to OUT."""

    name: str
    what: str
    lost: bool = False  # gone, cut off or no file: the next start will notice
    gone: bool = False  # there is no such file: any other problem of it is moot
    how: str | None = None  # what mends it, if that depends on nothing else
    undecodable: bool = False  # a picture that is as it was stored, but does not decode


Problems = Iterator[Problem]

OURS = "it is as it was written: please report this as a bug of wit"
STRANGER = "move it away or delete it"


def stage_of(name: str) -> str | None:
    """The stage that writes a file; None where no stage does."""
    folder, _, rest = name.partition("/")
    if name in REPORT_FILES:
        return "report"
    if is_apart(name):
        stage = rest.partition("-")[0]
        return stage if stage in STAGES else None
    return next((stage for stage in STAGES if directory_of(stage) == folder), None)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a set: the files that are off; the whole stages, of which every file that another stage reads is right; and
    `restorable`, whether the files beside a stage's manifest are enough to write the manifest again."""

    off: Collection[str]
    whole: Collection[str]
    restorable: Callable[[str], bool]


def sentences(
    problems: Sequence[Problem], finished: Collection[str], restorable: Callable[[str], bool] = lambda stage: True
) -> tuple[str, ...]:
    """One line a problem, with what mends it. Problems of run.json and of manifests come first: they hide others. `finished` are
    the stages whose manifests stand."""
    gone, lost = ({p.name for p in problems if kind(p)} for kind in (attrgetter("gone"), attrgetter("lost")))
    shown = [replace(p, lost=p.name in lost) for p in problems if p.gone or p.name not in gone]
    off = {problem.name for problem in shown}
    broken = {stage_of(name) for name in off if not (is_marker(name) or is_robots(name) or is_apart(name))}
    left = Left(off, {stage for stage in finished if stage not in broken}, restorable)
    first = (RUN_FILE, *(manifest_of(stage) for stage in STAGES))
    shown.sort(key=lambda problem: first.index(problem.name) if problem.name in first else len(first))
    return tuple(dict.fromkeys(f"{p.name}: {p.what}; {remedy(p, left)}" for p in shown))


def remedy(problem: Problem, left: Left) -> str:
    """What mends a file, as far as it can be mended; if there are several ways, with "or" between them."""
    name, stage = problem.name, stage_of(problem.name)
    if stage is not None and name != manifest_of(stage) and manifest_of(stage) in left.off:
        return f"first mend {manifest_of(stage)}"
    how = problem.how or (missed(name) if problem.lost else mend(name))
    if name == RUN_FILE and "download" not in left.whole:
        return f"{RUN}, or {OTHER}"
    if problem.how is not None or stage is None or is_robots(name):
        return how
    if name == manifest_of(stage):
        return of_manifest(problem, stage, left, how)
    if stage in ("publish", "report"):
        again = AGAIN if problem.lost else BY_PLACE[directory_of(stage)]
        return again if "download" in left.whole else NO_RAW
    if how == COPY_OR_WEB:
        return f"{how}, or {needless(stage)}" if "publish" in left.whole else how
    above = [directory_of(above) for above in KINDS[stage].opens if above not in left.whole and above != "score"]
    if above and not is_marker(name) and (published := sorted(n for n in left.off if stage_of(n) == "publish")):
        return f"first mend {published[0]}"  # that makes it anew as well, or a later look can tell what does
    if above and "publish" in left.whole and not is_marker(name):
        return f"{above[0]}/, which it is made from, is gone or damaged: put a copy back, or {needless(stage)}"
    return how


NO_RAW = f"{directory_of('download')}/, which it is made from, is gone or damaged: {COPY_OR_WEB}"


def of_manifest(problem: Problem, stage: str, left: Left, how: str) -> str:
    """What mends a stage's manifest: `how`, if the next start can write it again."""
    if stage != "publish":
        return f"{how if left.restorable(stage) else COPIES}, or {needless(stage)}"
    if left.restorable(stage):
        return how
    anew = AGAIN if problem.lost else ANEW
    return anew if "download" in left.whole else NO_RAW


COPIES = "put back a copy of it and of what else is gone beside it"


def needless(stage: str) -> str:
    return f"delete {directory_of(stage)}/, which a finished set does not need"
