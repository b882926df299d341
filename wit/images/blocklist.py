"""Hashes of pictures that must never be stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

PDQ_CLOSE = 31  # PDQ's own match distance


class Blocklist:
    """Hashes of pictures that must never be stored: sha256 by equality, PDQ (`pdq:` before it) within its match distance. May
    say of each what list it is from."""

    def __init__(self, hashes: Collection[str] | Mapping[str, str]) -> None:
        lists = hashes if isinstance(hashes, Mapping) else dict.fromkeys(hashes, "")
        self._sha256 = {h: name for h, name in lists.items() if not h.startswith("pdq:")}
        self._near = [(h.removeprefix("pdq:"), name) for h, name in lists.items() if h.startswith("pdq:")]

    @property
    def looks_at_pixels(self) -> bool:
        """Whether a picture must be decoded to know."""
        return bool(self._near)

    def match(self, sha256: str, pdq: bytes | None = None) -> str | None:
        """ "HASH LIST" of what a picture matches, the hash as it stands in the list; None where nothing does."""
        if sha256 in self._sha256:
            return f"{sha256} {self._sha256[sha256]}"
        if pdq is None or not self._near:
            return None
        import numpy as np  # here, since who keeps original bytes needs none

        apart = np.unpackbits(self._pdq ^ np.frombuffer(pdq, np.uint8), axis=1).sum(1)
        nearest = int(apart.argmin())
        return "pdq:{} {}".format(*self._near[nearest]) if apart[nearest] <= PDQ_CLOSE else None

    @cached_property
    def _pdq(self) -> Any:
        """[hashes, 32] bytes."""
        import numpy as np

        return np.frombuffer(bytes.fromhex("".join(h for h, _ in self._near)), np.uint8).reshape(-1, 32)
