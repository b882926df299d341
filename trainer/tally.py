"""The share of pictures whose class was found, with intervals: over all pictures, and over groups of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Hit = tuple[int, bool]  # the class of a picture, and whether it was found


@dataclass(frozen=True)
class Share:
    """The share of some pictures whose class was found, with its 95 % Wilson interval."""

    images: int
    top1: float
    top1_interval: tuple[float, float]


def share(hits: Sequence[Hit]) -> Share:
    """The share of hits; raises ZeroDivisionError for none."""
    right = sum(hit for _, hit in hits)
    return Share(len(hits), right / len(hits), wilson(right, len(hits)))


def by_group(hits: Sequence[Hit], groups: Sequence[str]) -> dict[str, Share]:
    """{group: share} of every group that has pictures. `groups[class]` is the group of a class; empty `groups` give nothing."""
    if not groups:
        return {}
    parts: dict[str, list[Hit]] = {}
    for label, hit in hits:
        parts.setdefault(groups[label], []).append((label, hit))
    return {group: share(parts[group]) for group in sorted(parts)}


def wilson(right: int, n: int, *, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson interval of `right` in `n`; near 0 and 1 it is honest, where the normal interval is not."""
    part = right / n
    centre, spread = part + z * z / (2 * n), z * math.sqrt(part * (1 - part) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
