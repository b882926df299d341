"""Hashes of pictures that must never be stored."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any

PDQ_CLOSE = 31  # PDQ's own match distance


class Blocklist:
    """Hashes of pictures that must never be stored: sha256 by equality, PDQ within its match distance."""

    def __init__(self, hashes: Collection[str]) -> None:
        self.sha256 = frozenset(h for h in hashes if len(h) == 64 and not h.startswith("pdq:"))
        self._near = [bytes.fromhex(h.removeprefix("pdq:")) for h in hashes if h.startswith("pdq:")]

    @property
    def looks_at_pixels(self) -> bool:
        """Whether a picture must be decoded to know."""
        return bool(self._near)

    @cached_property
    def _pdq(self) -> Any:
        """[hashes, 32] bytes."""
        import numpy as np  # here, since who keeps original bytes needs none

        return np.frombuffer(b"".join(self._near), np.uint8).reshape(-1, 32)

    def __contains__(self, found: tuple[str, bytes | None]) -> bool:
        sha256, pdq_hash = found
        if sha256 in self.sha256:
            return True
        if pdq_hash is None or not self._near:
            return False
        import numpy as np

        apart = np.unpackbits(self._pdq ^ np.frombuffer(pdq_hash, np.uint8), axis=1).sum(1)
        return bool(apart.min() <= PDQ_CLOSE)
