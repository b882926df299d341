"""The demonstration web as a source: its crawl files, and the running web while a build needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from wit import layout
from wit.demo.crawl import write_wat
from wit.demo.server import serve as serve_web
from wit.sources.batch import Served, SourceFile
from wit.sources.listing import version_of
from wit.store import fs


@contextlib.contextmanager
def serve(out: str) -> Iterator[Served]:
    """Writes the crawl files below an output directory, and runs the web while the block runs. Tables name the files by labels
    that do not depend on the directory."""
    with serve_web() as web:
        yield Served([_described(path) for path in write_wat(fs.join(out, layout.DEMO))], web.endpoints)


def _described(path: str) -> SourceFile:
    return SourceFile("wat", path, label=f"demo/{fs.name_of(path)}", size=fs.size(path), version=version_of(path))
