"""Hashes of pictures that must never be stored."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

from wit.errors import InputError
from wit.store import fs

HASH = re.compile(r"(?:pdq:)?[0-9a-f]{64}")
PDQ_CLOSE = 31  # PDQ's own match distance


class Blocklist:
    """Hashes of pictures that must never be stored. A sha256 matches by equality, a PDQ (with `pdq:` before it) within its match
    distance. Given a mapping, each hash has the name of its list."""

    def __init__(self, hashes: Collection[str] | Mapping[str, str]) -> None:
        lists = hashes if isinstance(hashes, Mapping) else dict.fromkeys(hashes, "")
        self._sha256 = {h: name for h, name in lists.items() if not h.startswith("pdq:")}
        self._near = [(h.removeprefix("pdq:"), name) for h, name in lists.items() if h.startswith("pdq:")]

    @property
    def looks_at_pixels(self) -> bool:
        """Whether a picture must be decoded to be compared: there are PDQs."""
        return bool(self._near)

    def match(self, sha256: str, pdq: bytes | None = None) -> str | None:
        """ "HASH LIST" of the entry that a picture matches, the hash as it stands in the list; None where it matches none."""
        if sha256 in self._sha256:
            return f"{sha256} {self._sha256[sha256]}"
        if pdq is None or not self._near:
            return None
        import numpy as np  # not above: builds that keep original bytes need no NumPy

        apart = np.unpackbits(self._pdq ^ np.frombuffer(pdq, np.uint8), axis=1).sum(1)
        nearest = int(apart.argmin())
        return "pdq:{} {}".format(*self._near[nearest]) if apart[nearest] <= PDQ_CLOSE else None

    @cached_property
    def _pdq(self) -> Any:
        """The PDQs as bytes [hashes, 32]."""
        import numpy as np

        return np.frombuffer(bytes.fromhex("".join(h for h, _ in self._near)), np.uint8).reshape(-1, 32)


def load_blocklist(paths: Sequence[str]) -> Blocklist:
    """The hashes in the files of --blocked-hashes. Raises InputError for a file that cannot be read, and for a line that is no
    hash."""
    listed: dict[str, str] = {}
    for path in paths:
        for number, line in enumerate(fs.read_given("--blocked-hashes", path).splitlines(), 1):
            word = line.partition("#")[0].strip().lower()
            if word and not HASH.fullmatch(word):
                raise InputError(
                    f"--blocked-hashes {path}, line {number}, is no hash: write 64 hexadecimal digits, pdq: before a PDQ"
                )
            if word:
                listed.setdefault(word, fs.name_of(path))
    return Blocklist(listed)
