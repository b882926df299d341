"""Runs the blocks of docs/interop.md that are of one kind, in order and in the working directory: `python blocks.py spark`.

It imports nothing of ours, since the Python that runs it may have Daft or Spark, and no wit.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
BLOCK = re.compile(r"^```python ?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    """The code of the page for `spark` or `daft`; without a word, that in pyarrow."""
    return [code for named, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if named == kind]


if __name__ == "__main__":
    shared: dict[str, object] = {}
    for code in blocks(sys.argv[1] if len(sys.argv) > 1 else ""):
        exec(compile(code, str(PAGE), "exec"), shared)
