"""Makes `pictures`, which stands beside, importable."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "pictures" not in sys.modules:
    spec = importlib.util.spec_from_file_location("pictures", Path(__file__).with_name("pictures.py"))
    assert spec and spec.loader
    module = sys.modules["pictures"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
