"""The hostile web as a module (`hostile`), and one call that fetches a list of URLs through the whole engine."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from wit.fetch.config import FetchConfig
from wit.fetch.engine import Engine
from wit.fetch.outcome import Outcome, Request
from wit.images.config import ImageConfig

HOSTILE = Path(__file__).with_name("hostile.py")


def load_hostile() -> ModuleType:
    if "hostile" not in sys.modules:
        spec = importlib.util.spec_from_file_location("hostile", HOSTILE)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["hostile"] = module
        spec.loader.exec_module(module)
    return sys.modules["hostile"]


load_hostile()

FetchAll = Callable[..., dict[str, Outcome]]


@pytest.fixture(scope="session")
def fetch_all(tmp_path_factory: pytest.TempPathFactory) -> FetchAll:
    def run(
        urls: list[str],
        config: FetchConfig,
        image: ImageConfig | None = None,
        *,
        during: Callable[[Engine], None] | None = None,
        timeout_s: float = 60,
        **engine: object,
    ) -> dict[str, Outcome]:
        scratch = str(tmp_path_factory.mktemp("spools"))
        found: dict[str, Outcome] = {}
        deadline = time.monotonic() + timeout_s
        with Engine(config, image or ImageConfig(), scratch, **engine) as one:  # type: ignore[arg-type]
            one.submit([Request(number, url) for number, url in enumerate(urls)])
            while len(found) < len(urls) and time.monotonic() < deadline:
                found |= {urls[outcome.id]: outcome for outcome in one.poll(0.05)}
                if during:
                    during(one)
        return found

    return run
