"""The words for a damaged file of a set: its name, what is wrong with it, and what mends it."""

from __future__ import annotations

from wit.errors import DamagedFile
from wit.layout import (
    CARD_FILE,
    CROISSANT_FILE,
    DROPPED,
    KNOWN_ENDING,
    LEDGER,
    LEDGER_FILE,
    RESTRICTED,
    RUN_FILE,
    directory_of,
)
from wit.stages import ALL

ANEW = "delete it and start the build again, which makes it anew"
AGAIN = "start the build again, which makes it anew"  # of a file that is missing, and was not read
CANDIDATES = (
    "make it anew from the sources with --rebuild-from candidates --stages candidates, or delete candidates/, which a "
    "finished set does not need"
)
COPY_OR_WEB = "put a copy back, or build again with --rebuild-from download, which asks the web for everything again"
NO_FILE = "move away what stands there and start again"
ROBOTS = "delete it, and the next download asks servers again"  # nothing else reads it
MANIFEST_AGAIN = "start the build again, which writes it anew from what lies beside it"
BY_PLACE = {
    directory_of("candidates"): CANDIDATES,
    directory_of("download"): COPY_OR_WEB,
    RESTRICTED: COPY_OR_WEB,
    directory_of("publish"): "build again with --rebuild-from publish, which makes it anew from raw/",
    **dict.fromkeys((LEDGER, directory_of("report")), "build again with --rebuild-from report, which writes it anew"),
}
RUN = "it holds the seed and the settings of the set: put a copy back"
OTHER = "choose another --output"
GIVEN = "give them to the next start, --seed too, which writes it anew"  # needs raw/
BY_NAME = dict.fromkeys((LEDGER_FILE, CARD_FILE, CROISSANT_FILE), BY_PLACE[LEDGER]) | {
    RUN_FILE: f"{RUN}, or move it away and {GIVEN}, or {OTHER}",
    **dict.fromkeys((kind.manifest for kind in ALL), f"delete it and {MANIFEST_AGAIN}"),
}


def is_robots(path: str) -> bool:
    """Whether a file keeps what servers said to a download."""
    return path.endswith(KNOWN_ENDING)


def is_marker(path: str) -> bool:
    """Whether a file is a unit's marker. A build writes one again from the manifest, or makes that one unit again."""
    *folders, name = path.rstrip("/").split("/")
    unit = name.removesuffix(".json")
    return (
        unit != name and "." not in unit and name not in BY_NAME and folders[-1:] not in ([], [directory_of("publish")])
    )


def mend(path: str, otherwise: str = ANEW) -> str:
    """What mends a file of a set, judged by its name and place in OUT; `otherwise` where those tell nothing."""
    *folders, name = path.rstrip("/").split("/")
    if is_robots(name):
        return ROBOTS
    if folders[-1:] == [DROPPED] and name.startswith("candidates-"):
        return CANDIDATES
    if is_marker(path):
        return otherwise
    return BY_NAME.get(name) or BY_PLACE.get(folders[-1] if folders else "", otherwise)


def missed(name: str) -> str:
    """What makes a file anew that is gone or cut off, judged by its name relative to OUT."""
    if name.endswith("MANIFEST.json"):
        return MANIFEST_AGAIN
    if name == RUN_FILE:
        return f"{RUN}, or {GIVEN}, or {OTHER}"
    here = name.partition("/")[0] in (directory_of("candidates"), directory_of("download"), RESTRICTED)
    return mend(name, AGAIN) if here or name.startswith(f"{DROPPED}/candidates-") else AGAIN


def damaged(path: str, what: object, how: str | None = None) -> DamagedFile:
    """The error to raise for a damaged file. `how` says what mends it; without it the file's place does."""
    fault = f"{what}".strip().partition("\n")[0]
    error = DamagedFile(f"{path} is damaged ({fault}): {how or mend(path)}")
    error.what = fault
    return error
