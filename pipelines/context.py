"""What every stage of one build shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.engine import Engine
from wit.config import BuildConfig
from wit.parts import Marker, StageDir
from wit.records import InputError
from wit.sources import SourceFile


@dataclass(frozen=True, slots=True)
class Context:
    config: BuildConfig
    sources: tuple[SourceFile, ...]
    seed: int
    engine: Engine
    fingerprints: Mapping[str, str]

    @property
    def processes(self) -> int:
        """Worker processes that the local engine's DoFns share; 0 where the engine brings its own."""
        return self.config.processes() if self.engine.local else 0

    def stage(self, name: str) -> StageDir:
        return StageDir(self.config.output, name, self.fingerprints[name])

    def manifest(self, name: str) -> Marker:
        """The finished stage's manifest; raises InputError if it is still to run."""
        found = self.stage(name).manifest()
        if found is None:
            raise InputError(
                f"{self.config.output} holds no finished {name} stage for these settings: add it to --stages"
            )
        return found
