"""Is a set that was built through faults the one that a calm build makes, and is nothing else there?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import stores

# What differs from build to build by nature (design section 5): times and attempts, who holds the set, when hosts may be asked.
VARIES = re.compile(r"run\.json|raw/.*(\.fetch\.parquet|\.robots\.json|\.json)|_lease/.*|\.lock|_tmp/places")
DIGEST = re.compile(r"\.[0-9a-f]{12}\.")
HOLDERS = re.compile(r"_lease/\d{8}\.json|\.lock|_tmp/places")
MOST_LEASES = 2


def files(root: Path) -> dict[str, bytes]:
    """The files of a set, by name; not what is on its way into a store."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(stores.UNFINISHED)]
    names = {str(path.relative_to(root)): path for path in paths}
    return {name: b"" if HOLDERS.fullmatch(name) else path.read_bytes() for name, path in names.items()}


def kind(name: str) -> str:
    """The name, without the digest where the content varies."""
    return DIGEST.sub(".", name) if VARIES.fullmatch(name) else name


def differences(set_: dict[str, bytes], calm: dict[str, bytes]) -> Iterator[str]:
    """What differs between two sets, and what there is in one alone, one sentence each."""
    mine, wanted = ({kind(name) for name in one if not HOLDERS.fullmatch(name)} for one in (set_, calm))
    yield from (f"{name} is not there" for name in sorted(wanted - mine))
    yield from (f"{name} is an orphan" for name in sorted(mine - wanted))
    for name in sorted(set_.keys() & calm.keys()):
        if not VARIES.fullmatch(name) and set_[name] != calm[name]:
            yield f"{name} has other bytes"
    leases = [name for name in set_ if name.startswith("_lease/")]
    if len(leases) > MOST_LEASES:
        yield f"{len(leases)} leases are left: {leases}"
    yield from _markers(set_, calm)


def _markers(set_: dict[str, bytes], calm: dict[str, bytes]) -> Iterator[str]:
    """Raw markers and their manifest agree but for the tables that vary."""
    for name in sorted(name for name in set_.keys() & calm.keys() if re.fullmatch(r"raw/[^.]*\.json", name)):
        if _settled(set_[name]) != _settled(calm[name]):
            yield f"{name} says something else"


def _settled(marker: bytes) -> object:
    """A raw marker, or the manifest of many, without what varies."""
    parsed = json.loads(marker)
    for part in parsed.get("parts", [parsed]):
        part.get("files", {}).pop("fetch", None)
    return parsed


def left_over(temporary: Path) -> list[str]:
    """What the processes of a build left in the temporary directory, but for the file of host rates."""
    return [
        str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file() and path.name != "places"
    ]
