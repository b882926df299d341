"""What is said where a file of ours is not what was written: its name, what is wrong with it, and what mends it."""

from __future__ import annotations

from wit.errors import DamagedFile

ANEW = "delete it and start the build again, which makes it anew"
CANDIDATES = (
    "make it anew from the sources with --rebuild-from candidates --stages candidates, or delete candidates/, which a "
    "finished set does not need"
)
AGAIN = "start the build again, which makes it anew"  # of one that is missed without being read
BY_PLACE = {
    "candidates": CANDIDATES,
    "raw": "put a copy back, or build again with --rebuild-from download, which asks the web for everything again",
    "shards": "build again with --rebuild-from publish, which makes it anew from raw/",
    **dict.fromkeys(("ledger", "report"), "build again with --rebuild-from report, which writes it anew"),
}
BY_PLACE["restricted"] = BY_PLACE["raw"]
BY_NAME = dict.fromkeys(("ledger.json", "README.md", "croissant.json"), BY_PLACE["report"]) | {
    "run.json": "it holds the seed and the settings of the set: put a copy back, or move it away and give them, --seed too, "
    "which writes it anew, or choose another --output",
    "_MANIFEST.json": "delete it and start the build again, which writes it anew from what lies beside it",
}
BY_NAME["MANIFEST.json"] = BY_NAME["_MANIFEST.json"]


def mend(path: str, otherwise: str = ANEW) -> str:
    """What mends a file of a set, by where in OUT it lies."""
    *folders, name = path.rstrip("/").split("/")
    if name.endswith(
        ".robots.json"
    ):  # what servers said: made of no other file, and of no use but to the next download
        return otherwise
    if folders[-1:] == ["dropped"] and name.startswith("candidates-"):
        return CANDIDATES
    return BY_NAME.get(name) or BY_PLACE.get(folders[-1] if folders else "", otherwise)


def missed(name: str) -> str:
    """What makes a file of a set anew that is gone or cut off, by its name relative to OUT."""
    here = name.partition("/")[0] in ("candidates", "raw", "restricted") or name == "run.json"
    return mend(name) if here or name.startswith("dropped/candidates-") else AGAIN


def damaged(path: str, what: object, how: str | None = None) -> DamagedFile:
    """The error to raise for a file; `how` it is mended, where its place does not tell."""
    said = f"{what}".strip().partition("\n")[0]
    return DamagedFile(f"{path} is damaged ({said}): {how or mend(path)}")
