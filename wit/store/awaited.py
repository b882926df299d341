"""Is all there that was wanted? An engine that reports success may have lost a unit."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable

from wit.errors import Stopped


def check_complete(stage: str, wanted: Iterable[str], published: Iterable[str]) -> None:
    """Raises Stopped unless every wanted unit was published."""
    awaited = Awaited(wanted)
    for name in published:
        awaited.came(name)
    awaited.check(stage)


class Awaited:
    """The units that a stage is to publish, and which of them came: a byte a unit beside its name, since a driver awaits
    250,000."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = [name for name, _ in itertools.groupby(sorted(names))]
        self._came = bytearray(len(self.names))

    def came(self, name: str) -> None:
        """Notes that a unit was published; one that nobody awaits is no matter."""
        if (at := bisect_left(self.names, name)) < len(self.names) and self.names[at] == name:
            self._came[at] = True

    def check(self, stage: str) -> None:
        """Raises Stopped unless all came."""
        if missing := self._came.count(False):
            first = self.names[self._came.index(False)]
            raise Stopped(
                f"{missing} of the {len(self.names)} units of {stage} were not published ({first}, ...): start the build "
                "again to go on"
            )
