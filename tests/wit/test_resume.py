"""Whether a build may go on, where another builder may have been at work meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from wit.errors import InputError, Stopped
from wit.resume import Stage, check_going_on
from wit.runfile import Record, RunFile
from wit.store import fs
from wit.store.lease import held, path_of


def test_a_builder_that_lost_its_lease_says_so_and_does_not_blame_the_settings(other_store: Any) -> None:
    out, run = other_store.at("set"), RunFile(config={}, seed=7, queries_sha256="q", sources=())
    stages = {"download": Stage("download", None), "plan": Stage("plan", None, record=Record(fingerprint="f"))}
    with held(out) as mine:
        with pytest.raises(InputError, match="plan is gone and select needs it"):
            check_going_on(out, run, run, stages, ["select"])
        fs.write_bytes(path_of(out, mine.number + 1), b"another builder's")
        with pytest.raises(Stopped, match="another build has taken over"):
            check_going_on(out, run, run, stages, ["select"])
